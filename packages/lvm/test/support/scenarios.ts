import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

const here = new URL('../fixtures/', import.meta.url)
const shared = new URL('../../../../../shared/fixtures/lvm/', import.meta.url)

/** What is known of the disks of a scenario. */
export interface Manifest {
  readonly scenario: string
  readonly disks: readonly { readonly file: string }[]
  readonly volumeGroup: string
  readonly extentSize: number
  readonly seqno: number
  readonly physicalVolumes: readonly { readonly uuid: string; readonly disk: string | null }[]
  readonly logicalVolumes: readonly {
    readonly name: string
    readonly uuid: string
    readonly size: number
    readonly segType: string
    readonly visible: boolean
    readonly sha256: string | null
    readonly unreadable?: string
    readonly container?: boolean
  }[]
}

/** A scenario: some are in the project, the rest where `../shared` is. */
export interface Scenario {
  readonly name: string
  readonly manifest: Manifest
  /** The disks, unpacked. */
  disks(): Uint8Array[]
}

function scenariosIn(root: URL): Scenario[] {
  if (!existsSync(root)) return []
  const names = readdirSync(root).filter((name) => existsSync(new URL(`${name}/manifest.json`, root)))
  return names.map((name) => {
    const folder = new URL(`${name}/`, root)
    const manifest: Manifest = JSON.parse(readFileSync(new URL('manifest.json', folder), 'utf8'))
    const disks = (): Uint8Array[] =>
      manifest.disks.map(({ file }) => gunzipSync(readFileSync(new URL(file, folder))))
    return { name, manifest, disks }
  })
}

const all = new Map(
  [...scenariosIn(shared), ...scenariosIn(here)].map((scenario) => [scenario.name, scenario]),
)

export const scenarios: readonly Scenario[] = [...all.values()]

/** One that is in the project. */
export function scenario(name: string): Scenario {
  return all.get(name) as Scenario
}
