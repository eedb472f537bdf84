/** What a table says of a word of a program; such a word may be `constructor`, which every object has. */
export const own = <T>(table: Readonly<Record<string, T>>, word: string): T | undefined =>
  Object.hasOwn(table, word) ? table[word] : undefined;
