import { defineFormat, type Format } from '@img/core'
import { isLuks } from '@img/crypto'
import { createLuks, measureLuks, streamLuks } from './create.js'
import { openLuks } from './open.js'
import { amendOptions, createOptions, openOptions } from './options.js'

/** LUKS1 disks: a header with key slots, and an encrypted raw disk. */
export const luks: Format = defineFormat({
  apiVersion: 1,
  name: 'luks',
  title: 'LUKS1 encrypted disk',
  extensions: ['.luks'],
  magic: [{ offset: 0, hex: '4c554b53babe' }],
  probe: { head: 8, matches: ({ head }) => isLuks(head) },
  openOptions,
  open: openLuks,
  createOptions,
  amendOptions,
  create: createLuks,
  stream: streamLuks,
  measure: measureLuks,
})
