/** What peers tell this node of itself: that it has reached a limit there. Kept as long as it holds, for `pando status`. */
import { z } from 'zod';
import { treeName } from '../../core/event-fields.ts';
import type { NodeId, TreeName } from '../../core/ids.ts';
import { checked } from '../../transfer/protocol.ts';

/** What a peer is told of by what this node calls it. */
export const LIMITED = 'contribution.limited';
/** Datasets that are named; of more the number tells. */
const NAMES_MAX = 3;
/** How long nobody is warned again of the same peer and tree, in ms: a peer says this as often as it likes. */
const WARN_AGAIN_MS = 3_600_000;

const limitedSchema = z.object({
  tree: treeName,
  /** How many datasets are left out, or lack snapshots; 0 once none is any more. */
  datasets: z.int().nonnegative(),
  names: z.array(z.string().max(255)).max(NAMES_MAX),
});
export type Limited = z.input<typeof limitedSchema>;

export interface Notice {
  readonly tree: TreeName;
  readonly text: string;
}

/** What a peer is told whose datasets are left out. */
export function limitedOf(tree: TreeName, names: readonly string[]): Limited {
  return { tree, datasets: names.length, names: names.slice(0, NAMES_MAX) };
}

export interface NoticesOptions {
  /** Whether this node mirrors the tree from the peer: of others nobody has anything to say. */
  readonly isMirrored: (tree: TreeName, peer: NodeId) => boolean;
  /** ms of a clock that never goes back. */
  readonly now: () => number;
  readonly warn: (peer: NodeId, notice: Notice) => void;
}

export class Notices {
  readonly #options: NoticesOptions;
  readonly #byPeer = new Map<NodeId, Map<TreeName, string>>();
  readonly #warnedAt = new Map<string, number>();

  constructor(options: NoticesOptions) {
    this.#options = options;
  }

  of(peer: NodeId): readonly Notice[] {
    return Array.from(this.#byPeer.get(peer) ?? [], ([tree, text]) => ({ tree, text })).filter(({ tree }) =>
      this.#options.isMirrored(tree, peer),
    );
  }

  /** A peer that is gone tells again what holds when it is back. */
  forget(peer: NodeId): void {
    this.#byPeer.delete(peer);
  }

  /** Takes what a peer says. Throws `PROTOCOL_FRAME_INVALID` for what is not well formed. */
  take(peer: NodeId, params: unknown): null {
    const limited = checked(limitedSchema, params, LIMITED);
    const { tree, datasets } = limited;
    if (!this.#options.isMirrored(tree, peer)) return null;
    const notices = this.#byPeer.get(peer) ?? new Map<TreeName, string>();
    this.#byPeer.set(peer, notices);
    if (datasets === 0) notices.delete(tree);
    else notices.set(tree, describe(limited));
    if (datasets > 0) this.#warn(peer, { tree, text: describe(limited) });
    return null;
  }

  #warn(peer: NodeId, notice: Notice): void {
    const { now, warn } = this.#options;
    const key = `${peer} ${notice.tree}`;
    const before = this.#warnedAt.get(key);
    if (before !== undefined && now() - before < WARN_AGAIN_MS) return;
    this.#warnedAt.set(key, now());
    warn(peer, notice);
  }
}

function describe({ tree, datasets, names }: Limited): string {
  const more = datasets - names.length;
  const what = `${names.map((name) => `"${name}"`).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  return `takes no more of "${tree}" from this node, which has reached a limit there; left out are ${what}`;
}
