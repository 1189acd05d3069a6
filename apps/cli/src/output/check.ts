import type { CheckResult } from '@img/core'
import { twoDecimals } from '../sizes.js'
import { qemuJson } from './json.js'

/** Numbers of a check as qemu-img's JSON has them (QAPI ImageCheck); those that are 0 are left out, but for check-errors. */
export function checkJson(result: CheckResult, filename: string, format: string): string {
  const some = (value: number | undefined): number | undefined => (value === 0 ? undefined : value)
  return `${qemuJson({
    'image-end-offset': some(result.imageEndOffset),
    'total-clusters': some(result.totalClusters),
    'check-errors': result.checkErrors,
    corruptions: some(result.corruptions),
    'corruptions-fixed': some(result.corruptionsFixed),
    leaks: some(result.leaks),
    'leaks-fixed': some(result.leaksFixed),
    'allocated-clusters': some(result.allocatedClusters),
    'fragmented-clusters': some(result.fragmentedClusters),
    'compressed-clusters': some(result.compressedClusters),
    filename,
    format,
  })}\n`
}

/** The same for people, as qemu-img writes it. */
export function checkText(result: CheckResult): string {
  const { corruptions, leaks, checkErrors, totalClusters = 0, allocatedClusters = 0 } = result
  const { fragmentedClusters = 0, compressedClusters = 0, imageEndOffset = 0 } = result
  let text = corruptions + leaks + checkErrors === 0 ? 'No errors were found on the image.\n' : ''
  if (corruptions > 0) {
    text +=
      `\n${corruptions} errors were found on the image.\n` +
      'Data may be corrupted, or further writes to the image may corrupt it.\n'
  }
  if (leaks > 0) {
    text +=
      `\n${leaks} leaked clusters were found on the image.\n` +
      'This means waste of disk space, but no harm to data.\n'
  }
  if (checkErrors > 0) text += `\n${checkErrors} internal errors have occurred during the check.\n`
  if (totalClusters > 0 && allocatedClusters > 0) {
    const share = (part: number, whole: number): string => `${twoDecimals((part * 100) / whole)}%`
    text +=
      `${allocatedClusters}/${totalClusters} = ${share(allocatedClusters, totalClusters)} allocated, ` +
      `${share(fragmentedClusters, allocatedClusters)} fragmented, ` +
      `${share(compressedClusters, allocatedClusters)} compressed clusters\n`
  }
  if (imageEndOffset > 0) text += `Image end offset: ${imageEndOffset}\n`
  return text
}

/** What was repaired, or, with `dryRun`, would be. */
export function repairText(result: CheckResult, dryRun: boolean): string {
  const { leaksFixed = 0, corruptionsFixed = 0 } = result
  const what = dryRun ? 'would be repaired' : 'were found and repaired'
  return (
    `The following inconsistencies ${what}:\n\n` +
    `    ${leaksFixed} leaked clusters\n    ${corruptionsFixed} corruptions\n\n`
  )
}
