/** Resume tokens of MemoryZfs: what OpenZFS packs into its own, as JSON in base64url. */
import type { ResumeToken, SnapshotGuid } from '../../core/ids.ts';
import type { MemoryPartial } from './model.ts';
import type { MemoryPools } from './pools.ts';
import type { SendStep } from './transfers.ts';

const PREFIX = 'memory-';

interface Token {
  readonly toGuid: SnapshotGuid;
  readonly fromGuid: SnapshotGuid | null;
  readonly flags: string;
  /** Records of the snapshot that have come. */
  readonly records: number;
}

export function tokenFor({ begin: { toGuid, fromGuid, flags }, records }: MemoryPartial): ResumeToken {
  const said: Token = { toGuid, fromGuid, flags, records };
  return `${PREFIX}${Buffer.from(JSON.stringify(said)).toString('base64url')}` as ResumeToken;
}

/** Null for what is no token. */
export function parseToken(token: ResumeToken): Token | null {
  if (!token.startsWith(PREFIX)) return null;
  try {
    return JSON.parse(Buffer.from(token.slice(PREFIX.length), 'base64url').toString()) as Token;
  } catch {
    return null;
  }
}

/** What a stream for the token would bring; null where its ends are not here. */
export function resumedStep(pools: MemoryPools, { toGuid, fromGuid }: Token): SendStep | null {
  const [to] = pools.snapshotsOf(toGuid);
  if (to === undefined) return null;
  if (fromGuid === null) return { from: null, to };
  const bookmark = to.dataset.bookmarks.find(({ guid }) => guid === fromGuid);
  const [from] = pools.snapshotsOf(fromGuid);
  if (from !== undefined) return { from, to };
  return bookmark === undefined ? null : { from: { ...bookmark, dataset: to.dataset }, to };
}
