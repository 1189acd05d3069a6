#!/usr/bin/env node
process.stdout.write('img\n')
