#!/usr/bin/env node
import module from 'node:module'

// Compiled code is kept from run to run, where Node can (22.1).
const { enableCompileCache } = module as { enableCompileCache?: () => void }
enableCompileCache?.()
const { main } = await import('./main.js')
await main(process.argv.slice(2))
