/** What peers tell this node of itself: that it has reached a limit there. Kept as long as it holds, for `pando status`. */
import { z } from 'zod';
import { treeName } from '../../core/event-fields.ts';
import type { NodeId, TreeName } from '../../core/ids.ts';
import { checked } from '../../transfer/protocol.ts';

/** What a peer is told of by what this node calls it. */
export const LIMITED = 'contribution.limited';
/** Datasets that are named; of more the number tells. */
const NAMES_MAX = 3;
/** Trees of one peer that are kept, so that none can fill the memory. */
const TREES_MAX = 64;

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

export class Notices {
  readonly #byPeer = new Map<NodeId, Map<TreeName, string>>();
  readonly #onNotice: (peer: NodeId, notice: Notice) => void;

  /** `onNotice` is told of each that is new. */
  constructor(onNotice: (peer: NodeId, notice: Notice) => void) {
    this.#onNotice = onNotice;
  }

  of(peer: NodeId): readonly Notice[] {
    return Array.from(this.#byPeer.get(peer) ?? [], ([tree, text]) => ({ tree, text }));
  }

  /** Takes what a peer says. Throws `PROTOCOL_FRAME_INVALID` for what is not well formed. */
  take(peer: NodeId, params: unknown): null {
    const limited = checked(limitedSchema, params, LIMITED);
    const { tree, datasets } = limited;
    const notices = this.#byPeer.get(peer) ?? new Map<TreeName, string>();
    const before = notices.get(tree);
    const text = datasets === 0 ? undefined : describe(limited);
    if (text === undefined) notices.delete(tree);
    else if (notices.size < TREES_MAX || before !== undefined) notices.set(tree, text);
    this.#byPeer.set(peer, notices);
    if (text !== undefined && text !== before) this.#onNotice(peer, { tree, text });
    return null;
  }
}

function describe({ tree, datasets, names }: Limited): string {
  const more = datasets - names.length;
  const what = `${names.map((name) => `"${name}"`).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  return `takes no more of "${tree}" from this node, which has reached a limit there; left out are ${what}`;
}
