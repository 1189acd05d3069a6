import { describe, expect, it } from 'vitest'
import { parseImageOptions } from '../src/image-opts.js'
import { asksForHelp, escapeValue, parseOptionList } from '../src/option-list.js'

describe('parseOptionList', () => {
  it.each([
    [
      ['a=1,b=2'],
      [
        { name: 'a', value: '1' },
        { name: 'b', value: '2' },
      ],
    ],
    [
      ['a=1', 'b=2'],
      [
        { name: 'a', value: '1' },
        { name: 'b', value: '2' },
      ],
    ],
    [
      ['a=x,,y,b=,,'],
      [
        { name: 'a', value: 'x,y' },
        { name: 'b', value: ',' },
      ],
    ],
    [['a=1,a=2'], [{ name: 'a', value: '2' }]],
    [['lazy_refcounts,size=1'], [{ name: 'lazy_refcounts' }, { name: 'size', value: '1' }]],
    [['a=b=c'], [{ name: 'a', value: 'b=c' }]],
    [['a='], [{ name: 'a', value: '' }]],
  ])('%j', (lists, options) => {
    expect(parseOptionList(lists)).toEqual(options)
  })

  it.each(['', ',a=1', 'a=1,', 'a=1,,,'])('refuses %j', (list) => {
    expect(() => parseOptionList(['a=1', list])).toThrow(`Invalid option list: ${list}`)
  })

  it('takes back what escapeValue wrote', () => {
    const value = 'we,ird,,name=x'
    expect(parseOptionList([`a=${escapeValue(value)},b=1`])[0]).toEqual({ name: 'a', value })
  })
})

describe('parseImageOptions', () => {
  it.each([
    ['driver=qcow2,file.filename=a,,b', { path: 'a,b', format: 'qcow2', options: {}, shared: false }],
    ['file.filename=a', { path: 'a', format: undefined, options: {}, shared: false }],
    ['driver=file,filename=a', { path: 'a', format: 'raw', options: {}, shared: false }],
    [
      'driver=raw,offset=512,size=1M,file.driver=file,file.filename=a,force-share=on',
      { path: 'a', format: 'raw', options: { offset: '512', size: '1M' }, shared: true },
    ],
  ])('%s', (text, parsed) => {
    expect(parseImageOptions(text)).toMatchObject(parsed)
  })

  it('takes what stands for the backing file and the data file', () => {
    expect(
      parseImageOptions(
        'driver=qcow2,file.filename=a,file.locking=off,backing.driver=raw,backing.file.filename=b,data-file.filename=c',
      ),
    ).toMatchObject({ path: 'a', shared: true, backing: { path: 'b', format: 'raw' }, dataFile: 'c' })
  })

  it.each([
    ['driver=qcow2', 'A block device must be specified for "file"'],
    ['driver=qcow2,file.driver=nbd,file.host=x', "Unknown driver 'nbd'"],
    ['driver=qcow2,file.filename=a,file.foo=x', "Block protocol 'file' doesn't support the option 'foo'"],
    ['driver=qcow2,file=a', "Cannot find device='a' nor node-name='a'"],
  ])('refuses %s', (text, reason) => {
    expect(() => parseImageOptions(text)).toThrow(`Could not open '${text}': ${reason}`)
  })
})

describe('asksForHelp', () => {
  it.each([['help'], ['?'], ['a=1,help'], ['?,a=1'], ['a=x,,y,help']])('%j', (list) => {
    expect(asksForHelp(['b=2', list])).toBe(true)
  })

  it.each([['a=help'], ['backing_file=disk,,help'], ['backing_file=disk,,?'], ['helpful'], ['help=1']])(
    'is not in %j',
    (list) => {
      expect(asksForHelp([list])).toBe(false)
    },
  )

  it.each([
    ['a=1,', 'help'],
    ['a=1', ',help'],
    ['a=1', ',,', 'help'],
  ])('refuses %j', (...lists) => {
    expect(() => asksForHelp(lists)).toThrow('Invalid option list: ')
  })
})
