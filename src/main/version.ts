import { createRequire } from 'node:module';
import { PandoError } from '../core/errors.ts';

/** The version of this software, from its package. */
export function softwareVersion(): string {
  // From dist/src/main as from src/main, the package lies the same number of folders up or one less.
  const require = createRequire(import.meta.url);
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      return (require(path) as { version: string }).version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new PandoError('INTERNAL', 'The package of this software has no package.json; install it again.');
}
