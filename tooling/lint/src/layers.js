/**
 * The layers of the workspace, lowest first. A package may depend on those that `uses` names;
 * development dependencies (tests) may point to any lower rank.
 *
 * @typedef {object} Layer
 * @property {number} rank
 * @property {readonly string[]} uses layers whose packages the sources may import
 * @property {boolean} node whether the sources may import `node:` modules
 */

/** @type {Record<string, Layer>} */
export const layers = {
  core: { rank: 0, uses: [], node: false },
  crypto: { rank: 1, uses: ['core'], node: false },
  conformance: { rank: 2, uses: ['core'], node: false },
  format: { rank: 3, uses: ['core', 'crypto'], node: false },
  node: { rank: 4, uses: ['core'], node: true },
  cli: { rank: 5, uses: ['core', 'node'], node: true },
  // The scaffold: its template is a format, its tests run the kit.
  'create-img-format': { rank: 3, uses: [], node: true },
}

/** Formats whose files hold disks of other formats, which core opens for them: their tests need some. */
export const containers = new Set(['ova'])

/**
 * Layer of a package of this workspace by its name; every package that is none of the fixed ones is a format.
 * @param {string} name such as `@img/qcow2`
 * @returns {string}
 */
export function layerOf(name) {
  const short = name.slice(name.indexOf('/') + 1)
  return short in layers && short !== 'format' ? short : 'format'
}

/**
 * What stands below what inside core. A file may not import from the groups that its own group names.
 * `jobs` are the top: nothing but the index (and jobs themselves) knows them; storage and codecs are the ground.
 *
 * @type {readonly { files: RegExp, mayNotImport: RegExp, because: string }[]}
 */
export const coreLayers = [
  {
    files: /^src\/(?!jobs\/|index\.ts$|jobs\.ts$)/,
    mayNotImport: /^src\/jobs\//,
    because: 'jobs stand above the access layer; only index.ts re-exports them',
  },
  {
    files: /^src\/storage(\/|\.ts$)/,
    mayNotImport: /^src\/(?!storage(\/|\.ts$)|errors\.ts$|bytes\.ts$|zero\.ts$|size\.ts$|abort\.ts$)/,
    because: 'storage is the lowest layer: it knows errors, bytes and other storage only',
  },
  {
    files: /^src\/codecs\//,
    mayNotImport: /^src\/(?!codecs\/|errors\.ts$|bytes\.ts$)/,
    because: 'a codec turns bytes into bytes: it knows errors and bytes only',
  },
  {
    files: /^src\/(errors|bytes)\.ts$/,
    mayNotImport: /^src\/(?!(errors|bytes)\.ts$)/,
    because: 'errors and bytes are the ground that all stand on',
  },
]
