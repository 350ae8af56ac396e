/** What an event of the log says, as a sentence. */
import { unreachable } from '../../core/errors.ts';
import type {
  AdminEventBody,
  BandwidthLimited,
  Event,
  MirrorRules,
  Origin,
  TreeEventBody,
  UnknownEventBody,
} from '../../core/events.ts';
import type { Graph } from '../../core/graph/graph.ts';
import { type DatasetId, type RelativeName, shortNodeId } from '../../core/ids.ts';
import { formatKeepRule } from '../../core/keep.ts';
import type { LayerEventBody } from '../../core/layer-events.ts';
import type { AccessRefused, RefusedAction, TrustEventBody } from '../../core/trust-events.ts';
import { describeContributions } from './describe-contributions.ts';
import { formatBytes, formatCount, formatGrace, formatPlace, formatTime } from './format.ts';

/** Names of datasets while a log is being read: events name most of them by id only. */
export class DatasetNames {
  readonly #tree: string;
  readonly #names = new Map<DatasetId, RelativeName>();
  readonly #fallback: Graph | undefined;

  /** `fallback` knows the names of datasets that were created before the first event that is read. */
  constructor(tree: string, fallback: Graph | undefined) {
    this.#tree = tree;
    this.#fallback = fallback;
  }

  /** The place of a dataset, or its id where nothing is known of it. */
  place(dataset: DatasetId): string {
    const name = this.#names.get(dataset) ?? this.#fallback?.get(dataset)?.name;
    return name === undefined ? `dataset ${dataset}` : this.named(name);
  }

  named(name: RelativeName): string {
    return formatPlace(this.#tree, name);
  }

  /** Learns what an event says about names. */
  learn(event: Event): void {
    if (event.type === 'dataset.created') this.#names.set(event.dataset, event.name);
    else if (event.type === 'dataset.renamed') this.#rename(event.from, event.to);
  }

  #rename(from: RelativeName, to: RelativeName): void {
    for (const [id, name] of this.#names) {
      if (name === from) this.#names.set(id, to);
      else if (name.startsWith(`${from}/`)) this.#names.set(id, `${to}${name.slice(from.length)}` as RelativeName);
    }
  }
}

function describeProperties(changed: Readonly<Record<string, string | null>>): string {
  return Object.entries(changed)
    .map(([name, value]) => (value === null ? `${name} is inherited again` : `${name} is ${value}`))
    .join(', ');
}

function describeOrigin(origin: Origin | null, names: DatasetNames): string {
  if (origin === null) return '';
  const where = origin.dataset === null ? 'another tree' : names.place(origin.dataset);
  return `, cloned from ${where} (snapshot guid ${origin.snapshot})`;
}

function describeTreeEvent(event: TreeEventBody, names: DatasetNames): string {
  switch (event.type) {
    case 'tree.added':
      return `The tree is kept at ${event.root}.`;
    case 'tree.removed':
      return 'The tree is not kept here any more.';
    case 'dataset.created':
      return `${names.named(event.name)} appeared${describeOrigin(event.origin, names)}${event.owner.isGuess === true ? `, and seems to belong to ${shortNodeId(event.owner.node)}…` : ''}.`;
    case 'dataset.renamed':
      return `${names.named(event.from)} was renamed to ${names.named(event.to)}.`;
    case 'dataset.promoted':
      return `${names.place(event.dataset)} was promoted.`;
    case 'dataset.rolled-back':
      return `${names.place(event.dataset)} was rolled back to @${event.name}.`;
    case 'dataset.destroyed':
      return `${names.named(event.name)} was destroyed.`;
    case 'dataset.properties-changed':
      return `Properties of ${names.place(event.dataset)} changed: ${describeProperties(event.changed)}.`;
    case 'snapshot.created':
      return `${names.place(event.dataset)}@${event.snapshot.name} appeared (guid ${event.snapshot.guid}, refers to ${formatBytes(event.snapshot.referenced)}).`;
    case 'snapshot.renamed':
      return `${names.place(event.dataset)}@${event.from} was renamed to @${event.to}.`;
    case 'snapshot.destroyed':
      return `${names.place(event.dataset)}@${event.name} was destroyed.`;
    case 'bookmark.created':
      return `${names.place(event.dataset)}#${event.bookmark.name} appeared (guid ${event.bookmark.guid}).`;
    case 'bookmark.destroyed':
      return `${names.place(event.dataset)}#${event.name} was destroyed.`;
    case 'hold.placed':
      return `A snapshot of ${names.place(event.dataset)} was held under "${event.tag}" (guid ${event.guid}).`;
    case 'hold.released':
      return `A snapshot of ${names.place(event.dataset)} is not held under "${event.tag}" any more (guid ${event.guid}).`;
    case 'image.tagged':
      return `Image "${event.name}" has ${formatCount(event.layers.length, 'layer')}${event.manifest === null ? '' : ` (manifest ${event.manifest})`}.`;
    case 'image.untagged':
      return `Nothing is called "${event.name}" any more.`;
    case 'ownership.claimed':
      return `${names.place(event.dataset)} ${event.owner.isGuess === true ? 'seems to belong' : 'belongs'} to ${shortNodeId(event.owner.node)}… (epoch ${event.owner.epoch}).`;
    default:
      return unreachable(event);
  }
}

function describeRules({ only, except, keep, graceMs }: MirrorRules): string {
  const what = only.length === 0 ? 'takes everything' : `takes ${only.join(', ')}`;
  const without = except.length === 0 ? '' : ` except ${except.join(', ')}`;
  return `${what}${without}, keeps ${formatKeepRule(keep)}, and what its owner destroys ${formatGrace(graceMs)}`;
}

function describeTrustEvent(event: TrustEventBody): string {
  switch (event.type) {
    case 'grant.given':
      return `${shortNodeId(event.peer)}… is ${event.role} of ${event.trees}.`;
    case 'grant.revoked':
      return `${shortNodeId(event.peer)}… may nothing in ${event.trees} any more by a grant for that.`;
    case 'invitation.made':
      return `Invitation ${event.invitation} was made: ${event.role} of ${event.trees}, until ${formatTime(event.expiresAt)}.`;
    case 'invitation.used':
      return `${event.peer} has joined with invitation ${event.invitation}.`;
    case 'invitation.withdrawn':
      return `Invitation ${event.invitation} was withdrawn.`;
    case 'peer.rekeyed':
      return `${event.peer} has a new key, its key ${event.keys.length}, for which the one before vouches; that counts no more.`;
    case 'access.refused':
      return describeRefusal(event);
    default:
      return unreachable(event);
  }
}

const REFUSED_TO: Readonly<Record<RefusedAction, string>> = {
  connect: 'to connect, since it is no peer',
  join: 'to join, without an invitation that holds',
  read: 'to read',
  contribute: 'to contribute to',
  take: 'to take over datasets of',
  operate: 'to change',
};

function describeRefusal({ peer, action, tree, times }: AccessRefused): string {
  const who = peer ?? 'Several nodes';
  const what = tree === null ? '' : ` "${tree}"`;
  return `${who} ${peer === null ? 'were' : 'was'} refused ${REFUSED_TO[action]}${what}${times === 1 ? '' : `, ${times} times`}.`;
}

function describeLimit({ peer, bytesPerSecond }: BandwidthLimited): string {
  const which = peer === null ? 'All streams together' : `Streams with ${shortNodeId(peer)}…`;
  return `${which} are ${bytesPerSecond === null ? 'not limited any more' : `limited to ${formatBytes(bytesPerSecond)}/s each way`}.`;
}

function describeLayerEvent(event: LayerEventBody): string {
  switch (event.type) {
    case 'layer-store.added':
      return `Layers are kept in ${formatPlace(event.tree, event.base)}.`;
    case 'root-commit.started':
      return `What container root "${event.root}" has is becoming image "${event.image}" (${event.transfer}).`;
    case 'snapshotter.kept':
      return `Snapshot "${event.key}" is ${event.kind}${event.parent === null ? '' : `, over "${event.parent}"`}, in ${event.dataset}.`;
    case 'snapshotter.dropped':
      return `Snapshot "${event.key}" was removed.`;
    default:
      return unreachable(event);
  }
}

function describeAdminEvent(event: AdminEventBody): string {
  switch (event.type) {
    case 'peer.added':
      return `Peer "${event.name}" (${event.peer}) was added.`;
    case 'peer.removed':
      return `Peer ${event.peer} was removed.`;
    case 'grant.given':
    case 'grant.revoked':
    case 'invitation.made':
    case 'invitation.used':
    case 'invitation.withdrawn':
    case 'access.refused':
    case 'peer.rekeyed':
      return describeTrustEvent(event);
    case 'layer-store.added':
    case 'root-commit.started':
    case 'snapshotter.kept':
    case 'snapshotter.dropped':
      return describeLayerEvent(event);
    case 'bandwidth.limited':
      return describeLimit(event);
    case 'contributions.limited':
      return `${shortNodeId(event.peer)}… may bring ${describeContributions(event)} into each tree that it contributes to.`;
    case 'local-tree.added':
      return `Tree "${event.tree}" was added at ${event.root}.`;
    case 'local-tree.removed':
      return `Tree "${event.tree}" was removed.`;
    case 'mirror.added':
      return `A mirror of "${event.tree}" from ${shortNodeId(event.from)}… was added at ${event.root}; it ${describeRules(event)}.`;
    case 'mirror.changed':
      return `The mirror of "${event.tree}" ${describeRules(event)}.`;
    case 'departures.noticed':
      return `The owner of "${event.tree}" has destroyed ${event.departed.length} of what is kept here; ${event.settled.length} no longer count.`;
    case 'mirror.removed':
      return `The mirror of "${event.tree}" was removed.`;
    case 'transfer.started':
      return `Transfer ${event.transfer} of "${event.tree}" ${event.role === 'sender' ? 'to' : 'from'} ${shortNodeId(event.peer)}… began (${formatCount(event.held.length, 'hold')}).`;
    case 'receive.interrupted':
      return `Transfer ${event.transfer} of "${event.tree}" was cut short; the next sync goes on with ${event.targets.join(', ')}.`;
    case 'preservation.started':
      return `What diverged in ${event.name} is being moved to ${event.aside} (${event.transfer}).`;
    case 'root-exchange.started':
      return `${event.successor} is taking the place of ${event.name}, which goes to ${event.former} (${event.transfer}).`;
    case 'transfer.ended':
      return `Transfer ${event.transfer} ended: ${event.outcome}, ${formatBytes(event.bytes)}.`;
    default:
      return unreachable(event);
  }
}

type AdminType = AdminEventBody['type'];
const ADMIN_TYPES: Readonly<Record<AdminType, true>> = {
  'peer.added': true,
  'peer.removed': true,
  'grant.given': true,
  'grant.revoked': true,
  'invitation.made': true,
  'invitation.used': true,
  'invitation.withdrawn': true,
  'access.refused': true,
  'peer.rekeyed': true,
  'layer-store.added': true,
  'root-commit.started': true,
  'snapshotter.kept': true,
  'snapshotter.dropped': true,
  'bandwidth.limited': true,
  'contributions.limited': true,
  'local-tree.added': true,
  'local-tree.removed': true,
  'mirror.added': true,
  'mirror.changed': true,
  'mirror.removed': true,
  'departures.noticed': true,
  'transfer.started': true,
  'receive.interrupted': true,
  'preservation.started': true,
  'root-exchange.started': true,
  'transfer.ended': true,
};

type Body = TreeEventBody | AdminEventBody | UnknownEventBody;

function isAdminEvent(event: Body): event is AdminEventBody {
  return Object.hasOwn(ADMIN_TYPES, event.type);
}

/** One sentence about an event. */
export function describeEvent(event: Body, names: DatasetNames): string {
  if (event.type === 'unknown') return `Something that this version does not know: ${event.originalType}.`;
  return isAdminEvent(event) ? describeAdminEvent(event) : describeTreeEvent(event, names);
}
