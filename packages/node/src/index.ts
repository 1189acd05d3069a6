/** Version of the plugin contract that this package speaks. */
export const apiVersion: 1 = 1
