import type { IoOptions } from '@img/core'
import type { ConfigSection } from './config-text.js'
import { lvmError } from './errors.js'
import { GroupEditor, type Writer } from './group-editor.js'
import { type MetadataTarget, writeMetadata } from './metadata-writer.js'
import type { FoundPv } from './scan.js'
import type { VolumeGroup } from './volume-group.js'
import { assertWritableGroup } from './writable-group.js'

/** What a session starts with. */
export interface SessionParts {
  readonly group: VolumeGroup
  /** The metadata that the group was made of. */
  readonly root: ConfigSection
  /** The physical volumes found, those of other groups too. */
  readonly found: readonly FoundPv[]
  /** Who is to be recorded as the writer. */
  readonly writer: () => Writer
}

/** A group that is open: its metadata as it is now, and the way to change it. */
export class GroupSession {
  readonly #writer: () => Writer
  #found: readonly FoundPv[]
  #group: VolumeGroup
  #root: ConfigSection

  constructor({ group, root, found, writer }: SessionParts) {
    this.#group = group
    this.#root = root
    this.#found = found
    this.#writer = writer
  }

  get group(): VolumeGroup {
    return this.#group
  }

  /** The physical volumes found, those of other groups too. */
  get found(): readonly FoundPv[] {
    return this.#found
  }

  /** The physical volumes of the group that were found, by their names in the metadata. */
  get present(): ReadonlyMap<string, FoundPv> {
    const present = new Map<string, FoundPv>()
    for (const { name, uuid } of this.#group.physicalVolumes.values()) {
      const pv = this.#found.find((each) => each.uuid === uuid)
      if (pv !== undefined) present.set(name, pv)
    }
    return present
  }

  get writer(): Writer {
    return this.#writer()
  }

  /** A physical volume whose label or size changed. */
  replace(pv: FoundPv): void {
    this.#found = this.#found.map((each) => (each.uuid === pv.uuid ? pv : each))
  }

  /** @throws {ImageError} as {@link assertWritableGroup}. */
  assertWritable(): void {
    const { present } = this
    const names = [...this.#group.physicalVolumes.keys()]
    assertWritableGroup(
      this.#group,
      names.filter((name) => !present.has(name)),
    )
  }

  /**
   * Changes the metadata: what `edit` does to it is stored in all metadata areas of the group.
   * @param description what is done, as lvm2 records the command
   * @throws {ImageError} what `edit`, {@link assertWritableGroup} and {@link writeMetadata} throw; then nothing was changed.
   */
  async change<T>(description: string, edit: (editor: GroupEditor) => T, options?: IoOptions): Promise<T> {
    this.assertWritable()
    const editor = new GroupEditor(this.#root)
    const result = edit(editor)
    const text = editor.text(`Write from ${description}.`, this.#writer())
    await writeMetadata(this.#areas(), text, options)
    this.#root = editor.root
    this.#group = editor.group
    return result
  }

  #areas(): MetadataTarget[] {
    const areas = [...this.present.values()].flatMap(({ storage, label }) =>
      label.metadataAreas.map((area) => ({ storage, area })),
    )
    if (areas.length === 0) {
      throw lvmError('IMG_UNSUPPORTED', `the disks found have no metadata area of ${this.#group.name}`)
    }
    return areas
  }
}
