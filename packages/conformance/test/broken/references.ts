import { toy } from '../toy/format.js'
import { type Broken, override, withFormat } from './support.js'

/** Faults of opening what an image names. */
export const references: readonly Broken[] = [
  {
    what: 'opens its backing file unasked',
    format: withFormat({
      async open(storage, context) {
        const driver = await toy.open(storage, context)
        if (driver.backing && !context.inspect) await (await context.openReference(driver.backing)).close()
        return driver
      },
    }),
    fault: /backing file "backing\.img" was opened by the driver; it is to name it only/,
  },
  {
    what: 'opens its data file only to describe the image',
    format: withFormat({ open: (storage, context) => toy.open(storage, { ...context, inspect: false }) }),
    subject: { options: [{ data_file: 'guest.data' }] },
    fault: /opening for information failed with ImageError IMG_REFERENCE_DENIED/,
  },
  {
    what: 'asks for its data file to describe the image, and makes do without',
    format: withFormat({
      async open(storage, context) {
        if (context.inspect)
          await context.openReference({ kind: 'data', name: 'guest.data' }).catch(() => undefined)
        return toy.open(storage, context)
      },
    }),
    fault: /data file "guest\.data" was asked for, to describe the image/,
  },
  {
    what: 'goes on without a data file that it was denied',
    format: withFormat({
      open: (storage, context) =>
        toy.open(storage, {
          ...context,
          openReference: (reference) => context.openReference(reference).catch(() => storage.slice(0)),
        }),
    }),
    subject: { options: [{ data_file: 'guest.data' }] },
    fault: /data file "guest\.data" was denied, and opening went on as if it were not there/,
  },
  {
    what: 'makes a file beside a new image that nobody asked for',
    format: withFormat({
      async create(target, spec, context) {
        const log = await context.createReference({ kind: 'data', name: 'toy.log' })
        await log.close()
        return (toy.create as NonNullable<typeof toy.create>)(target, spec, context)
      },
    }),
    fault: /"toy\.log" was made beside the new image, and no option named it/,
  },
  {
    what: 'names a backing file without a name',
    format: withFormat({
      async open(storage, context) {
        const driver = await toy.open(storage, context)
        return driver.backing ? override(driver, { backing: { kind: 'backing', name: '' } }) : driver
      },
    }),
    fault: /IMG_REFERENCE_MISSING|without a name/,
  },
]
