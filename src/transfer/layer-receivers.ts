/**
 * What cursors are elsewhere (`cursors.ts`), for the layers of a ZFS that has no bookmarks: each says itself which peers have received it, so that garbage collection leaves it. Increments
 * need nothing like it here.
 */
import { allEnded } from '../core/all-ended.ts';
import type { Dataset } from '../core/graph/graph.ts';
import {
  absoluteName,
  type DatasetId,
  type DatasetName,
  type NodeId,
  type RelativeName,
  type TreeName,
} from '../core/ids.ts';
import { LAYER_PROPERTY } from '../core/layers/layer-names.ts';
import { RECEIVERS_PROPERTY, withoutReceiver, withReceiver } from '../core/layers/receivers.ts';
import type { History } from '../log/history.ts';
import { Turns } from '../log/turns.ts';
import type { Zfs } from '../zfs/zfs.ts';

/** What keeping account of deliveries needs. */
export interface DeliveryOptions {
  readonly history: History;
  readonly zfs: Zfs;
  /** Looks at these datasets, so that the log tells what was changed: no change token does. */
  readonly look: (tree: TreeName, names: readonly RelativeName[]) => Promise<unknown>;
}

/** What a dataset is to say; null for nothing, undefined for what it says already. */
type Text = string | null | undefined;

export class LayerReceivers {
  readonly #options: DeliveryOptions;
  /** One change after the other has been logged: each begins with what the log says. */
  readonly #turns = new Turns<'receivers'>();

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** Has the layers among these datasets say that a peer has received them. Rejects as ZFS does. */
  add(tree: TreeName, peer: NodeId, received: ReadonlySet<DatasetId>): Promise<void> {
    return this.#change(tree, ({ id, properties }) =>
      received.has(id) && properties[LAYER_PROPERTY] !== undefined ? withReceiver(properties, peer) : undefined,
    );
  }

  /** Has all layers of a tree forget a peer. Rejects as ZFS does. */
  forget(tree: TreeName, peer: NodeId): Promise<void> {
    return this.#change(tree, ({ properties }) => withoutReceiver(properties, peer));
  }

  #change(tree: TreeName, textOf: (dataset: Dataset) => Text): Promise<void> {
    return this.#turns.run('receivers', async () => {
      const { history, look } = this.#options;
      const graph = history.graph(history.ownStream(tree));
      const { root } = graph;
      if (root === null) return;
      const changes = Array.from(graph.datasets.values()).flatMap((dataset) => {
        const text = textOf(dataset);
        return text === undefined ? [] : [{ dataset, text }];
      });
      if (changes.length === 0) return;
      const names = changes.map(({ dataset }) => dataset.name);
      await allEnded(
        changes.map(({ dataset, text }) => this.#say(absoluteName(root, dataset.name), text)),
        () => look(tree, names),
      );
    });
  }

  #say(name: DatasetName, text: string | null): Promise<void> {
    const { zfs } = this.#options;
    if (text === null) return zfs.inheritProperty([name], RECEIVERS_PROPERTY);
    return zfs.setProperties([name], { [RECEIVERS_PROPERTY]: text });
  }
}
