import { Failure } from './errors.js'
import { parseOptionList } from './option-list.js'

/** What `--image-opts` says of an image. */
export interface ImageOptions {
  readonly path: string
  /** Name of the format; absent: found by probing. */
  readonly format?: string | undefined
  /** Values for the format's open options, as text. */
  readonly options: Readonly<Record<string, string>>
  /** `force-share=on`. */
  readonly shared: boolean
}

const fileDrivers = ['file', 'host_device']

/**
 * Understands `driver=FORMAT,file.filename=PATH,…`: a format driver over a local file, or the file alone.
 * @throws {Failure} for other drivers below the format.
 */
export function parseImageOptions(text: string): ImageOptions {
  const options = new Map(parseOptionList([text]).map(({ name, value }) => [name, value ?? 'on']))
  const take = (name: string): string | undefined => {
    const value = options.get(name)
    options.delete(name)
    return value
  }
  const fail = (reason: string): Failure =>
    new Failure(`Could not open '${text}': ${reason}`, {
      hint: 'such as --image-opts driver=qcow2,file.filename=disk.qcow2',
    })
  const driver = take('driver')
  const bare = driver !== undefined && fileDrivers.includes(driver)
  const fileDriver = bare ? driver : take('file.driver')
  if (fileDriver !== undefined && !fileDrivers.includes(fileDriver))
    throw fail(`Unknown driver '${fileDriver}'`)
  const path = take(bare ? 'filename' : 'file.filename')
  if (path === undefined)
    throw fail(
      bare ? "The 'file' block driver requires a file name" : 'A block device must be specified for "file"',
    )
  const shared = take('force-share') === 'on'
  const nested = [...options.keys()].find((name) => name.startsWith('file.'))
  if (nested !== undefined) throw fail(`the option '${nested}' is not supported`)
  return { path, format: bare ? 'raw' : driver, options: Object.fromEntries(options), shared }
}
