import type { Mount, SnapshotUsage } from '../../core/snapshots/snapshot.ts';
import type { WrittenSnapshot } from '../../core/snapshots/written-snapshot.ts';
import type { Call } from './call.ts';
import type { CommitSnapshotRequest, CreateSnapshotRequest, LabelSnapshotRequest } from './requests.ts';

const PATH = '/v1/snapshots';

/** How calls are made: with an answer in JSON, and without one. */
export interface Calling {
  json<Result>(call: Call): Promise<Result>;
  done(call: Call): Promise<void>;
}

/** The part of the API that is about snapshots as containerd has them. */
export class SnapshotsClient {
  readonly #calling: Calling;

  constructor(calling: Calling) {
    this.#calling = calling;
  }

  /** Those that match any of the filters; all without one. */
  list(filter: readonly string[]): Promise<readonly WrittenSnapshot[]> {
    return this.#calling.json({ method: 'GET', path: PATH, query: { filter } });
  }

  stat(key: string): Promise<WrittenSnapshot> {
    return this.#calling.json({ method: 'GET', path: `${PATH}/info`, query: { key } });
  }

  mounts(key: string): Promise<readonly Mount[]> {
    return this.#calling.json({ method: 'GET', path: `${PATH}/mounts`, query: { key } });
  }

  usage(key: string): Promise<SnapshotUsage> {
    return this.#calling.json({ method: 'GET', path: `${PATH}/usage`, query: { key } });
  }

  prepare(body: CreateSnapshotRequest): Promise<readonly Mount[]> {
    return this.#calling.json({ method: 'POST', path: `${PATH}/prepare`, body });
  }

  view(body: CreateSnapshotRequest): Promise<readonly Mount[]> {
    return this.#calling.json({ method: 'POST', path: `${PATH}/view`, body });
  }

  commit(body: CommitSnapshotRequest): Promise<void> {
    return this.#calling.done({ method: 'POST', path: `${PATH}/commit`, body });
  }

  /** Gives the snapshot as it is then. */
  label(body: LabelSnapshotRequest): Promise<WrittenSnapshot> {
    return this.#calling.json({ method: 'POST', path: `${PATH}/label`, body });
  }

  remove(key: string): Promise<void> {
    return this.#calling.done({ method: 'DELETE', path: PATH, query: { key } });
  }
}
