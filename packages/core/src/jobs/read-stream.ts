import { ImageError } from '../errors.js'
import type { Format } from '../format.js'
import { parseOptions } from '../options.js'
import { defaultRegistry, type FormatRegistry } from '../registry.js'
import type { IoOptions } from '../storage.js'
import type { StreamReader } from '../streaming.js'
import type { WarningListener } from '../warning.js'

/** Options of {@link readImageStream}. */
export interface ReadImageStreamOptions extends IoOptions {
  /** For messages. */
  readonly label: string
  /** Values for the format's open options, parsed or as text. */
  readonly options?: Readonly<Record<string, unknown>> | undefined
  /** Where the format of a disk inside is found. Default: the default registry. */
  readonly registry?: FormatRegistry | undefined
  /** Told what the user should know that is no error. */
  readonly onWarning?: WarningListener | undefined
}

/**
 * Reads a disk from bytes that come once, front to back.
 * @throws {ImageError} IMG_UNSUPPORTED where the format cannot be read so, IMG_BAD_OPTION; what the format throws.
 */
export async function readImageStream(
  format: Format,
  input: AsyncIterable<Uint8Array>,
  options: ReadImageStreamOptions,
): Promise<StreamReader> {
  const { label, signal, registry = defaultRegistry, onWarning } = options
  if (format.readStream === undefined) {
    throw new ImageError('IMG_UNSUPPORTED', `format ${format.name} cannot be read from a pipe`, {
      format: format.name,
      hint: 'its tables point back and forth: store it in a file first',
    })
  }
  return format.readStream(input, {
    label,
    signal,
    options: parseOptions(format.openOptions ?? {}, options.options ?? {}, format.name),
    streamInside: async (name, part) =>
      readImageStream(await registry.load(name), part, { label, signal, registry, onWarning }),
    warn: (message, code) => onWarning?.(message, code),
  })
}
