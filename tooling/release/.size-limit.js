/**
 * What a package costs a web page: bundled, minified, compressed with brotli, without @img/core where it is a peer. Limits are a
 * tenth above what the sizes were when they were set; raise one with a reason in the commit.
 * @type {readonly [name: string, path: string, limit: string, extra?: { ignore?: string[], platform?: string }][]}
 */
const limits = [
  ['@img/core', 'core/dist/index.js', '34 kB', { ignore: ['@hpcc-js/wasm-zstd', 'pako'] }],
  ['@img/core with its codecs, which are loaded when needed', 'core/dist/index.js', '235 kB'],
  ['@img/raw', 'raw/dist/index.js', '1.7 kB'],
  ['@img/raw/format', 'raw/dist/format.js', '1.7 kB'],
  ['@img/qcow2', 'qcow2/dist/index.js', '70 kB'],
  ['@img/qcow2/format', 'qcow2/dist/format.js', '70 kB'],
  ['@img/cow', 'cow/dist/index.js', '7 kB'],
  ['@img/cow/format', 'cow/dist/format.js', '7 kB'],
  ['@img/qcow', 'qcow/dist/index.js', '22.5 kB'],
  ['@img/qcow/format', 'qcow/dist/format.js', '22.5 kB'],
  ['@img/vdi', 'vdi/dist/index.js', '11 kB'],
  ['@img/vdi/format', 'vdi/dist/format.js', '11 kB'],
  ['@img/luks', 'luks/dist/index.js', '19 kB'],
  ['@img/luks/format', 'luks/dist/format.js', '19 kB'],
  ['@img/crypto', 'crypto/dist/index.js', '21 kB'],
  ['@img/vmdk', 'vmdk/dist/index.js', '24 kB'],
  ['@img/vmdk/format', 'vmdk/dist/format.js', '24 kB'],
  ['@img/ova', 'ova/dist/index.js', '31 kB'],
  ['@img/ova/format', 'ova/dist/format.js', '31 kB'],
  ['@img/lvm', 'lvm/dist/index.js', '40 kB'],
  ['@img/lvm/format', 'lvm/dist/format.js', '40 kB'],
  ['@img/conformance', 'conformance/dist/index.js', '31 kB'],
  ['@img/node', 'node/dist/index.js', '17 kB', { platform: 'node' }],
]

export default limits.map(([name, path, limit, { platform = 'browser', ...extra } = {}]) => ({
  name,
  path: `../../packages/${path}`,
  limit,
  // What is loaded only where it is needed is measured with the package: all of it is there to be loaded.
  ignore: path.startsWith('core/') ? [] : ['@img/core', '@img/crypto', 'fast-check', 'koffi'],
  modifyEsbuildConfig: (/** @type {object} */ config) => ({
    ...config,
    platform,
    format: 'esm',
    logLevel: 'error',
  }),
  ...extra,
}))
