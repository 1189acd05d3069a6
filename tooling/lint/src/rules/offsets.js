import ts from 'typescript'
import { lineOf } from '../package-files.js'

const truncating = new Set([
  ts.SyntaxKind.AmpersandToken,
  ts.SyntaxKind.BarToken,
  ts.SyntaxKind.CaretToken,
  ts.SyntaxKind.LessThanLessThanToken,
  ts.SyntaxKind.GreaterThanGreaterThanToken,
  ts.SyntaxKind.GreaterThanGreaterThanGreaterThanToken,
  ts.SyntaxKind.AmpersandEqualsToken,
  ts.SyntaxKind.BarEqualsToken,
  ts.SyntaxKind.LessThanLessThanEqualsToken,
  ts.SyntaxKind.GreaterThanGreaterThanEqualsToken,
  ts.SyntaxKind.GreaterThanGreaterThanGreaterThanEqualsToken,
])
const offsetName = /(^|[a-z])(offset|position)$/i

/**
 * Bitwise operators cut a number to 32 bits, and an offset is larger: divide, multiply and take remainders.
 * @param {import('../package-files.js').Package} pkg
 * @returns {import('../package-files.js').Problem[]}
 */
export function checkOffsets(pkg) {
  return pkg.sources.flatMap(({ path, ast }) => {
    /** @type {import('../package-files.js').Problem[]} */
    const problems = []
    /** @param {import('typescript').Node} node */
    const visit = (node) => {
      if (ts.isBinaryExpression(node) && truncating.has(node.operatorToken.kind)) {
        const name = [node.left, node.right].map(nameOf).find((text) => text && offsetName.test(text))
        if (name) {
          const operator = node.operatorToken.getText(ast)
          problems.push({
            file: path,
            line: lineOf(ast, node),
            message: `'${operator}' cuts '${name}' to 32 bits; use arithmetic on offsets`,
          })
        }
      }
      ts.forEachChild(node, visit)
    }
    visit(ast)
    return problems
  })
}

/** @param {import('typescript').Expression} expression */
function nameOf(expression) {
  if (ts.isIdentifier(expression)) return expression.text
  if (ts.isPropertyAccessExpression(expression)) return expression.name.text
  return undefined
}
