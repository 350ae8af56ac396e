import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LevelLog } from '../../src/log/level-log.ts';

/** Where in a compressed block, and over how many bytes: past the key, and longer than any stretch that is stored as it is. */
const DAMAGE_OFFSET = 2_000;
const DAMAGE_BYTES = 400;

/**
 * Has LevelDB refuse to read a block of a log that is closed, as a disk does that lost a sector: of the blocks whose first row has a key with
 * that beginning, the one with this number, counted from 0.
 */
export async function makeUnreadable(directory: string, keyPrefix: string, block: number): Promise<void> {
  // What was written goes from LevelDB's journal into a table as it is opened again
  await (await LevelLog.open(directory)).close();
  const [table = '', ...others] = (await readdir(directory)).filter((name) => name.endsWith('.ldb'));
  if (others.length > 0) throw new Error(`The rows lie in several tables: ${others.join(', ')}`);
  const bytes = await readFile(join(directory, table));
  let start = -1;
  for (let found = 0; found <= block; found += 1) start = bytes.indexOf(keyPrefix, start + 1);
  if (start === -1) throw new Error(`No block ${block} begins with ${keyPrefix}`);
  bytes.fill(0xff, start + DAMAGE_OFFSET, start + DAMAGE_OFFSET + DAMAGE_BYTES);
  await writeFile(join(directory, table), bytes);
}
