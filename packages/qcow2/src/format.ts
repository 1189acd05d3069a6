/** Name under which the format is registered. */
export const name: string = 'qcow2'
