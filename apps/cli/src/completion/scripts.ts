import { bash } from './bash.js'
import { fish } from './fish.js'
import { powershell } from './powershell.js'
import { zsh } from './zsh.js'

/** Shells that there is completion for. */
export const shells = ['bash', 'zsh', 'fish', 'powershell'] as const
/** One of {@link shells}. */
export type Shell = (typeof shells)[number]

const scripts: Readonly<Record<Shell, string>> = { bash, zsh, fish, powershell }

/** True for the name of a shell that there is completion for. */
export function isShell(name: string): name is Shell {
  return (shells as readonly string[]).includes(name)
}

/** What `img completion` prints. */
export function completionScript(shell: Shell): string {
  return scripts[shell]
}
