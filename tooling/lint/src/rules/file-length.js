const warnAbove = 350
const failAbove = 450

/**
 * A file is one idea: long ones hold two.
 * @param {import('../package-files.js').Package} pkg
 * @returns {import('../package-files.js').Problem[]}
 */
export function checkFileLength(pkg) {
  return pkg.sources.flatMap(({ path, text }) => {
    const lines = text.split('\n').length - 1
    if (lines <= warnAbove) return []
    const level = lines > failAbove ? 'error' : 'warning'
    return [
      {
        file: path,
        level,
        message: `${lines} lines; split it (warning above ${warnAbove}, error above ${failAbove})`,
      },
    ]
  })
}
