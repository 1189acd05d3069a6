import { type DiskImage, ImageError } from '@img/core'
import { Failure } from './errors.js'
import { parseOptionList } from './option-list.js'

/** A disk, perhaps a snapshot in an image; closing it closes the image. */
export interface OpenedDisk {
  readonly disk: DiskImage
  /** The image that holds it. */
  readonly image: DiskImage
  close(): Promise<void>
}

/**
 * The snapshot that `-l` names: `snapshot.id=ID,snapshot.name=NAME`, or an id or a name. Without one, the image itself.
 * The image is closed where that fails.
 * @throws {Failure}
 */
export async function openSnapshot(image: DiskImage, parameter: string | undefined): Promise<OpenedDisk> {
  if (parameter === undefined) return { disk: image, image, close: () => image.close() }
  try {
    const disk = await findAndOpen(image, parameter)
    return {
      disk,
      image,
      async close() {
        await disk.close()
        await image.close()
      },
    }
  } catch (error) {
    await image.close()
    throw error
  }
}

/** The snapshot that `-l` names, as {@link openSnapshot} takes it. Closing it leaves the image open. @throws {Failure} */
export async function findAndOpen(image: DiskImage, parameter: string): Promise<DiskImage> {
  const { id, name, either } = parseSnapshot(parameter)
  const { snapshots } = image
  if (snapshots === undefined) {
    throw new Failure(`Failed to load snapshot: format '${image.format.name}' has no internal snapshots`)
  }
  const list = await snapshots.list()
  const found =
    either === undefined
      ? list.find(
          (each) => (id === undefined || each.id === id) && (name === undefined || each.name === name),
        )
      : (list.find((each) => each.id === either) ?? list.find((each) => each.name === either))
  if (found === undefined) {
    const known = list.map((each) => `${each.id} (${each.name})`).join(', ')
    throw new Failure("Failed to load snapshot: Can't find snapshot", {
      hint: known === '' ? 'the image has none' : `the image has ${known}`,
    })
  }
  try {
    return await snapshots.open(found.id)
  } catch (error) {
    if (!ImageError.is(error)) throw error
    throw new Failure(`Failed to load snapshot: ${error.message}`, { cause: error })
  }
}

function parseSnapshot(parameter: string): {
  id?: string | undefined
  name?: string | undefined
  either?: string
} {
  if (!parameter.startsWith('snapshot.')) return { either: parameter }
  const options = new Map(parseOptionList([parameter]).map(({ name, value }) => [name, value]))
  for (const key of options.keys()) {
    if (key !== 'snapshot.id' && key !== 'snapshot.name') {
      throw new Failure(`Invalid parameter '${key}'`, {
        more: [`Failed in parsing snapshot param '${parameter}'`],
      })
    }
  }
  return { id: options.get('snapshot.id'), name: options.get('snapshot.name') }
}
