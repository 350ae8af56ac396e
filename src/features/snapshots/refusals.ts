import { PandoError } from '../../core/errors.ts';

export function exists(key: string): PandoError {
  return new PandoError('SNAPSHOT_EXISTS', `There is a snapshot "${key}" already.`, { key });
}

export function wrongState(key: string, why: string): PandoError {
  return new PandoError('SNAPSHOT_STATE', `Snapshot "${key}" ${why}.`, { key });
}
