import type { Machine } from '../machine.ts';
import type { World } from '../world.ts';
import type { Checker, Finding } from './checker.ts';

/** What may wait to be sent to one peer, in bytes: as in sync/session.ts, with the frame that went over it. */
const BUFFERED_BYTES_MAX = 25 * 1024 * 1024;
/**
 * Timers for each peer and each mirror that a node has: a session has three, a transfer two, and so has a mirror. Whatever is kept for a peer and let go in time has
 * one, so that no peer can make a node keep more by asking more often.
 */
const TIMERS_EACH_MAX = 8;
/** The same at rest, when nothing is transferred and nobody says hello. */
const TIMERS_EACH_AT_REST_MAX = 3;

/**
 * Invariant 8: what a node keeps for a peer is bounded: what waits to be sent (the network keeps the largest amount that it saw), what it waits for, and at rest
 * connections: one for each two peers, and none for data.
 */
export const boundedMemory: Checker = {
  invariant: 8,
  async check(world) {
    return [
      ...inNetwork(world).map((what) => ({ machine: 'the network', what })),
      ...world.honest.flatMap((machine): Finding[] => inNode(machine).map((what) => ({ machine: machine.name, what }))),
    ];
  },
};

function inNetwork(world: World): string[] {
  const { bufferedBytesMax, wires } = world.network;
  const { ends, streams } = wires.open;
  const pairs = world.links().length;
  return [
    ...(bufferedBytesMax > BUFFERED_BYTES_MAX ? [`${bufferedBytesMax} bytes waited for one peer`] : []),
    ...(ends > 2 * pairs ? [`${ends} ends of connections are open between ${pairs} pairs of peers`] : []),
    ...(streams > 0 ? [`${streams} data connections are open`] : []),
  ];
}

function inNode({ timers, timersMax, peers, mirrors }: Machine): string[] {
  const ties = 1 + peers.size + mirrors.size;
  const many = `for ${peers.size} peers and ${mirrors.size} mirrors`;
  return [
    ...(timersMax > TIMERS_EACH_MAX * ties ? [`it waited for ${timersMax} things at a time ${many}`] : []),
    ...(timers > TIMERS_EACH_AT_REST_MAX * ties ? [`it waits for ${timers} things ${many}`] : []),
  ];
}
