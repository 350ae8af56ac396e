/** Where the files are that a build leaves where they are: scripts, and what is installed elsewhere. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The root of the checkout, whether this file is built or run as it is. */
export const CHECKOUT: string = rootAbove(import.meta.dirname);

function rootAbove(directory: string): string {
  if (existsSync(join(directory, 'package.json'))) return directory;
  const above = dirname(directory);
  if (above === directory) throw new Error(`There is no package.json above ${import.meta.dirname}`);
  return rootAbove(above);
}
