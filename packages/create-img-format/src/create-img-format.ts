#!/usr/bin/env node
import { main } from './main.js'

const { status, stdout = '', stderr = '' } = main(process.argv.slice(2), process.cwd())
process.stdout.write(stdout)
process.stderr.write(stderr)
process.exitCode = status
