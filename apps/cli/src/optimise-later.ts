/**
 * Bytes of bytecode that a function runs through before V8 optimises it; 132 KiB by default. Higher: a copy is the kernel's
 * work and ours in the C library, and the optimising threads take the processors away from both (up to 15% of the time of a
 * copy on two cores). Loops that matter, such as checksums, pass it within milliseconds all the same.
 */
const interruptBudget = 2_000_000

/** For commands that copy much. Only where V8 decides by this budget (Node 20): later ones decide by calls, and more rarely. */
export function optimiseLater(): void {
  if (!process.versions.v8.startsWith('11.')) return
  process.getBuiltinModule('node:v8').setFlagsFromString(`--interrupt-budget=${interruptBudget}`)
}
