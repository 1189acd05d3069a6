import { defaultRegistry, type FormatRegistry, type ImageWarningCode, type WarningListener } from '@img/core'
import { discover } from './discover.js'
import { warningJson } from './errors.js'
import { printErr, printOut } from './output/write.js'
import type { Plugin } from './plugins/load.js'
import { programName } from './program-name.js'
import { abortOnSignals } from './signals.js'

/** Options that every verb takes, before or after its name. */
export interface GlobalOptions {
  /** `--plugin`. */
  readonly plugin?: readonly string[] | undefined
  /** False after `--no-discovery`. */
  readonly discovery?: boolean | undefined
  /** `--allow-ref`. */
  readonly allowRef?: readonly string[] | undefined
  /** `--json`. */
  readonly json?: boolean | undefined
}

/** What a verb runs in. */
export interface Context {
  readonly globals: GlobalOptions
  /** Prints a warning, once, unless quiet. */
  readonly warn: WarningListener
  /** Prints a line that says what was done. With `--json` there is none: the exit status says it. */
  readonly announce: (line: string) => void
  /** The registry with all plugins found. */
  readonly registry: () => Promise<FormatRegistry>
  /** Files that the user named in open options: absolute path or URL, and the name as typed. The gate lets them pass. */
  readonly namedFiles: Map<string, string>
  /** The plugins found. */
  readonly plugins: () => Promise<readonly Plugin[]>
  /** Aborts when the process is told to stop. Only for verbs that then have something to clean up. */
  readonly signal: () => AbortSignal
}

/** Makes the context of a run. Nothing is loaded before it is asked for. */
export function createContext(globals: GlobalOptions, quiet: boolean): Context {
  const { env } = process
  const told = new Set<string>()
  const warn = (message: string, code?: ImageWarningCode): void => {
    if (quiet || told.has(message)) return
    told.add(message)
    printErr(globals.json === true ? warningJson(message, code) : `${programName}: warning: ${message}\n`)
  }
  const once = <T>(make: () => T): (() => T) => {
    const made: T[] = []
    return () => {
      if (made.length === 0) made.push(make())
      return made[0] as T
    }
  }
  const plugins = once(() => {
    const directory = workingDirectory()
    return discover({
      plugins: globals.plugin ?? [],
      environment: env.IMG_PLUGINS,
      project: directory !== undefined && globals.discovery !== false && !isOn(env.IMG_NO_DISCOVERY),
      cwd: directory ?? import.meta.dirname,
      onWarning: warn,
    })
  })
  return {
    globals,
    warn,
    announce: (line) => {
      if (globals.json !== true) printOut(`${line}\n`)
    },
    plugins,
    namedFiles: new Map(),
    registry: once(async () => {
      await plugins()
      return defaultRegistry
    }),
    signal: once(abortOnSignals),
  }
}

/** The working directory; undefined where it was removed, or its path is longer than the system tells. */
function workingDirectory(): string | undefined {
  try {
    return process.cwd()
  } catch {
    return undefined
  }
}

/** An environment variable that is set, to anything but an empty text or 0. */
function isOn(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0'
}
