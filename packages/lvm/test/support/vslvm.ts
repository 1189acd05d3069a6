import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Reads a volume by name with libvslvm; prints its size and the sha256 of its content. Without arguments: is the library there? */
const reader = `
import ctypes, sys, hashlib
lib = ctypes.CDLL('libvslvm.so.1')
lib.libvslvm_logical_volume_read_buffer_at_offset.restype = ctypes.c_ssize_t
if len(sys.argv) > 1:
    handle, group, volume = ctypes.c_void_p(0), ctypes.c_void_p(0), ctypes.c_void_p(0)
    size = ctypes.c_uint64(0)
    names = (ctypes.c_char_p * 1)(sys.argv[1].encode())
    wanted = sys.argv[2].encode()
    assert lib.libvslvm_handle_initialize(ctypes.byref(handle), None) == 1
    assert lib.libvslvm_handle_open(handle, names[0], 1, None) == 1
    assert lib.libvslvm_handle_open_physical_volume_files(handle, names, 1, None) == 1
    assert lib.libvslvm_handle_get_volume_group(handle, ctypes.byref(group), None) == 1
    name, number, count = ctypes.create_string_buffer(256), 0, ctypes.c_int(0)
    assert lib.libvslvm_volume_group_get_number_of_logical_volumes(group, ctypes.byref(count), None) == 1
    while name.value != wanted:
        assert number < count.value
        volume = ctypes.c_void_p(0)
        if lib.libvslvm_volume_group_get_logical_volume(group, number, ctypes.byref(volume), None) == 1:
            lib.libvslvm_logical_volume_get_name(volume, name, ctypes.c_size_t(256), None)
        number += 1
    assert lib.libvslvm_logical_volume_get_size(volume, ctypes.byref(size), None) == 1
    digest, at, buffer = hashlib.sha256(), 0, ctypes.create_string_buffer(1 << 20)
    while at < size.value:
        want = ctypes.c_size_t(min(1 << 20, size.value - at))
        got = lib.libvslvm_logical_volume_read_buffer_at_offset(volume, buffer, want, ctypes.c_int64(at), None)
        assert got > 0
        digest.update(buffer.raw[:got])
        at += got
    print(size.value, digest.hexdigest())
`

function python(...args: string[]): { readonly status: number | null; readonly stdout: string } {
  return spawnSync('python3', ['-c', reader, ...args], { encoding: 'utf8' })
}

/** True where libvslvm and python3 are installed. */
export const hasLibvslvm: boolean = python().status === 0

/** What libvslvm reads of a volume on one disk: size and SHA-256; undefined where it cannot. */
export function readWithLibvslvm(
  disk: Uint8Array,
  name: string,
): { readonly size: number; readonly sha256: string } | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'vslvm-'))
  try {
    const file = join(folder, 'disk.raw')
    writeFileSync(file, disk)
    const { status, stdout } = python(file, name)
    if (status !== 0) return undefined
    const [size, sha256 = ''] = stdout.trim().split(' ')
    return { size: Number(size), sha256 }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
