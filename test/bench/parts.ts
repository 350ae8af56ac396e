/** The parts of the benchmark: each runs in a process of its own and gives rows of the table. */

import { MILLION_SNAPSHOTS } from './generated-graph.ts';
import { measureHandover } from './handover-bench.ts';
import { measureHostile } from './hostile-bench.ts';
import { measureIncrements } from './increments-bench.ts';
import { measureLayers, median } from './layers-bench.ts';
import { measureAppend, measureLargeGraph, measureRecord, measureReplay } from './log-bench.ts';
import { measurePlan } from './plan-bench.ts';
import { measureRest } from './rest-bench.ts';
import type { RootCosts } from './root-costs.ts';
import { measureRootsOnOpenZfs } from './roots-bench.ts';
import { measureSync } from './sync-bench.ts';
import {
  type BulkTimes,
  measureBareRoundTrips,
  measureBulk,
  measureFamily,
  measureIdle,
  measureStreams,
  SSH,
  SSH_GCM,
  type StreamTimes,
} from './zfs-bench.ts';

/** One line of the table. */
export interface Row {
  readonly what: string;
  readonly measured: string;
  readonly target: string;
  /** Null where nothing is asked for: a figure for information. */
  readonly reached: boolean | null;
}

export interface PartResult {
  readonly rows: readonly Row[];
  /** Everything that was measured, for the JSON file. */
  readonly details: unknown;
}

const LARGE = { datasets: 100_000, snapshotsEach: 10, clonesEach: 3, groupSize: 40 };
const BULK_MEBIBYTES = 1024;
const BULK_ROUNDS = 3;
const INCREMENTS = 200;
const INCREMENT_ROUNDS = 3;
const STREAMS = 3;
const STREAM_MEBIBYTES = 512;
/** A transfer that is long enough for memory to show whether it grows. */
const LONG_MEBIBYTES = Number(process.env.PANDO_BENCH_LONG_MEBIBYTES ?? 10_240);
const HANDOVER_MEBIBYTES = 8_192;
const HOSTILE_SECONDS = 6;
/** What one peer may cost a node, in MB: what waits for it and from it, and what the collector has not taken back yet. */
const HOSTILE_MEGABYTES_MAX = 150;
const HANDOVER_FACTOR_MIN = 3;
const ROUND_TRIP_MS_MAX = 20;
const DIRECT_CPU_SECONDS_MAX = 0.1;
const NODE_MEGABYTES_MAX = 150;
/** What a flat curve may rise by from its first third to its last. */
const RISE_MAX = 1.1;
const WIRE_BYTES_MAX = 4 * 1024;
const FAMILY_CLONES = 100;
/** What lies behind a family plays no part: nothing of it is sent. */
const FAMILY_MEBIBYTES = Number(process.env.PANDO_BENCH_FAMILY_MEBIBYTES ?? 256);
const FAMILY_WIRE_BYTES_MAX = 20_000;

function row(what: string, measured: string, target: string, reached: boolean | null): Row {
  return { what, measured, target, reached };
}

function ratioRow(what: string, ratio: number, target: number): Row {
  return row(what, ratio.toFixed(2), `≤ ${target.toFixed(2)}`, ratio <= target);
}

function peakRow(what: string, nodes: readonly { readonly peakMegabytes: number }[]): Row {
  return row(what, `${Math.max(...nodes.map(({ peakMegabytes }) => peakMegabytes)).toFixed(0)} MB`, '', null);
}

async function log(): Promise<PartResult> {
  const [append, record, replay] = [await measureAppend(), await measureRecord(), await measureReplay()];
  const perSecond = ({ eventsPerSecond }: { eventsPerSecond: number }) => `${Math.round(eventsPerSecond)} events/s`;
  return {
    rows: [
      row('log: append, batches of 1,000', perSecond(append), '≥ 100000', append.eventsPerSecond >= 100_000),
      row('log: record (fold, encode, append)', perSecond(record), '', null),
      row('log: replay', perSecond(replay), '≥ 200000', replay.eventsPerSecond >= 200_000),
    ],
    details: { append, record, replay },
  };
}

async function openLarge(): Promise<PartResult> {
  const opened = await measureLargeGraph();
  const { seconds, residentMegabytes } = opened;
  return {
    rows: [
      row('log: open, 1,000,000 snapshots', `${seconds.toFixed(2)} s`, '≤ 3 s', seconds <= 3),
      row('log: resident after that', `${residentMegabytes.toFixed(0)} MB`, '≤ 500 MB', residentMegabytes <= 500),
    ],
    details: opened,
  };
}

async function sync(): Promise<PartResult> {
  const measured = await measureSync();
  const { wireBytesThere, wireBytesBack, roundTrips } = measured.changes;
  const bytes = wireBytesThere + wireBytesBack;
  return {
    rows: [
      row('sync: 10 changes in 1,000,000 snapshots', `${bytes} bytes`, `≤ ${WIRE_BYTES_MAX}`, bytes <= WIRE_BYTES_MAX),
      row('sync: round trips for that', String(roundTrips), '1', roundTrips === 1),
    ],
    details: measured,
  };
}

async function planning(): Promise<PartResult> {
  const measured = measurePlan(LARGE, 1_000);
  const { seconds, steps } = measured;
  return {
    rows: [row(`plan: 100,000 datasets, ${steps} steps`, `${seconds.toFixed(2)} s`, '≤ 2 s', seconds <= 2)],
    details: measured,
  };
}

async function idle(): Promise<PartResult> {
  const measured = await measureIdle(50, 100);
  const { medianMilliseconds, worstMilliseconds, zfsCalls } = measured;
  return {
    rows: [
      row(
        'idle: sync over 5,000 snapshots',
        `${medianMilliseconds.toFixed(2)} ms`,
        '≤ 10 ms',
        medianMilliseconds <= 10,
      ),
      row('idle: slowest of 100', `${worstMilliseconds.toFixed(2)} ms`, '', null),
      row('idle: calls of zfs', String(zfsCalls), '0', zfsCalls === 0),
      peakRow('idle: peak memory of a node', measured.nodes),
    ],
    details: measured,
  };
}

const REST_CPU_MAX = 0.01;

async function rest(): Promise<PartResult> {
  const measured = await measureRest(MILLION_SNAPSHOTS);
  const { snapshots, seconds, cpuSeconds, commands, residentMegabytes } = measured;
  const share = cpuSeconds / seconds;
  return {
    rows: [
      row(
        `rest: a core, with ${snapshots} snapshots and nothing to do`,
        `${(100 * share).toFixed(2)} %`,
        `≤ ${100 * REST_CPU_MAX} %`,
        share <= REST_CPU_MAX,
      ),
      row(`rest: commands of zfs in these ${seconds} s`, String(commands), '', null),
      row('rest: memory of the node', `${residentMegabytes.toFixed(0)} MB`, '', null),
    ],
    details: measured,
  };
}

async function increments(): Promise<PartResult> {
  const measured = await measureIncrements(INCREMENTS, INCREMENT_ROUNDS);
  const syncoid =
    measured.syncoidRatio === null
      ? row(`increments: ${INCREMENTS} small / syncoid`, `not compared: ${measured.missing}`, '≤ 0.1', null)
      : ratioRow(`increments: ${INCREMENTS} small / syncoid`, measured.syncoidRatio, 1 / 10);
  return {
    rows: [
      ratioRow(`increments: ${INCREMENTS} small / shell loop`, measured.loopRatio, 0.8),
      syncoid,
      peakRow('increments: peak memory of a node', measured.nodes),
    ],
    details: measured,
  };
}

/** What a sealed link may take of what a rival takes, where that is a target. */
const SEALED_AGAINST_MAX: Readonly<Record<string, number>> = { [SSH]: 0.6, [SSH_GCM]: 0.9 };

function rivalRows({ sealedAgainst, pipeAgainst, missing }: BulkTimes): Row[] {
  if (missing !== null)
    return [row('bulk: 1 GiB, sealed link / what others use', `not compared: ${missing}`, '', null)];
  return Object.entries(sealedAgainst).flatMap(([name, ratio]) => {
    const limit = SEALED_AGAINST_MAX[name];
    const what = `bulk: 1 GiB, sealed link / ${name}`;
    if (limit === undefined) return [row(what, ratio.toFixed(2), '', null)];
    const bare = pipeAgainst[name] ?? Number.NaN;
    return [ratioRow(what, ratio, limit), row(`bulk: 1 GiB, bare pipe / ${name}`, bare.toFixed(2), '', null)];
  });
}

async function bulk(): Promise<PartResult> {
  const measured = await measureBulk(BULK_MEBIBYTES, BULK_ROUNDS);
  const { directCpuPerGibibyte } = measured;
  return {
    rows: [
      ratioRow('bulk: 1 GiB, direct link / bare pipe', measured.directRatio, 1.03),
      row('bulk: 1 GiB, sealed link / bare pipe', measured.sealedRatio.toFixed(2), '', null),
      row(
        'bulk: CPU of both nodes per GiB, direct',
        `${directCpuPerGibibyte.toFixed(2)} s`,
        `≤ ${DIRECT_CPU_SECONDS_MAX} s`,
        directCpuPerGibibyte <= DIRECT_CPU_SECONDS_MAX,
      ),
      row('bulk: CPU of both nodes per GiB, sealed', `${measured.sealedCpuPerGibibyte.toFixed(2)} s`, '', null),
      ...rivalRows(measured),
      peakRow('bulk: peak memory of a node', measured.nodes),
    ],
    details: measured,
  };
}

async function handover(): Promise<PartResult> {
  const measured = await measureHandover(HANDOVER_MEBIBYTES);
  const { factor } = measured;
  const what = 'handover: /dev/zero to /dev/null, direct against TCP through Node';
  return {
    rows: [row(what, `${factor.toFixed(1)} times`, `≥ ${HANDOVER_FACTOR_MIN}`, factor >= HANDOVER_FACTOR_MIN)],
    details: measured,
  };
}

async function streams(): Promise<PartResult> {
  const sealed = await measureStreams(STREAMS, STREAM_MEBIBYTES, false);
  const direct = await measureStreams(STREAMS, STREAM_MEBIBYTES, true);
  const roundTrip = (link: string, { roundTrips: { p99 } }: StreamTimes): Row =>
    row(
      `streams: control round trip beside ${STREAMS}, ${link}, 99th percentile`,
      `${p99.toFixed(1)} ms`,
      `≤ ${ROUND_TRIP_MS_MAX} ms`,
      p99 <= ROUND_TRIP_MS_MAX,
    );
  const bare = await measureBareRoundTrips(STREAMS, STREAM_MEBIBYTES);
  return {
    rows: [
      roundTrip('sealed', sealed),
      roundTrip('direct', direct),
      row(`streams: the same of a bare echo beside ${STREAMS} bare pipes`, `${bare.p99.toFixed(1)} ms`, '', null),
      row(
        'streams: CPU of both nodes per GiB, with these questions, direct',
        `${direct.cpuSecondsPerGibibyte.toFixed(2)} s`,
        '',
        null,
      ),
      row(
        'streams: CPU of both nodes per GiB, with these questions, sealed',
        `${sealed.cpuSecondsPerGibibyte.toFixed(2)} s`,
        '',
        null,
      ),
    ],
    details: { sealed, direct, bare },
  };
}

async function hostile(): Promise<PartResult> {
  const measured = await measureHostile(HOSTILE_SECONDS);
  const { restMegabytes, memory, answered } = measured;
  const rows = Object.entries(memory).map(([name, samples]) => {
    const more = Math.max(...samples) - restMegabytes;
    const isBorne = more <= HOSTILE_MEGABYTES_MAX && answered[name] === true;
    const told = `${more.toFixed(0)} MB more${answered[name] === true ? '' : ', and no answer behind it'}`;
    return row(`hostile: ${name}`, told, `≤ ${HOSTILE_MEGABYTES_MAX} MB`, isBorne);
  });
  return { rows, details: measured };
}

async function long(): Promise<PartResult> {
  const measured = await measureStreams(1, LONG_MEBIBYTES, false);
  const what = `long: ${(LONG_MEBIBYTES / 1024).toFixed(0)} GiB sealed`;
  const rows = Object.entries(measured.memory).flatMap(([name, samples]) => {
    const peak = Math.max(...samples);
    const isNode = !name.startsWith('sealing');
    const third = Math.max(1, Math.floor(samples.length / 3));
    const rise = Math.max(...samples.slice(-third)) / Math.max(...samples.slice(0, third));
    return [
      row(
        `${what}, memory of ${name}`,
        `${peak} MB`,
        isNode ? `≤ ${NODE_MEGABYTES_MAX} MB` : '',
        isNode ? peak <= NODE_MEGABYTES_MAX : null,
      ),
      ...(isNode ? [ratioRow(`${what}, ${name}, last third / first third`, rise, RISE_MAX)] : []),
    ];
  });
  return { rows, details: measured };
}

async function family(): Promise<PartResult> {
  const measured = await measureFamily(FAMILY_CLONES, FAMILY_MEBIBYTES);
  const streams = measured.reduce((sum, change) => sum + change.streams, 0);
  return {
    rows: [
      ...measured.flatMap(({ what, wireBytes, steps, seconds }) => [
        row(
          `family of 100: ${what}`,
          `${wireBytes} bytes`,
          `≤ ${FAMILY_WIRE_BYTES_MAX}`,
          wireBytes <= FAMILY_WIRE_BYTES_MAX,
        ),
        row(`family of 100: ${what}, ${steps} steps`, `${seconds.toFixed(2)} s`, '', null),
      ]),
      row('family of 100: streams', String(streams), '0', streams === 0),
    ],
    details: measured,
  };
}

const PREPARE_RATIO_MAX = 1.3;
const UNPACK_RATIO_MAX = 1.2;
const MIRROR_RATIO_MAX = 0.7;
const LIST_MS_MAX = 200;

function rootRows(part: string, { roots, seconds, bytesEach, processesEach, listings }: RootCosts): Row[] {
  const each = `${((1000 * seconds) / roots).toFixed(0)} ms`;
  return [
    row(`${part}: Prepare, each of ${roots} one after the other`, each, '', null),
    row(`${part}: pool space of each of ${roots} roots`, `${bytesEach.toFixed(0)} bytes`, '', null),
    row(`${part}: zfs processes for each of them`, processesEach.toFixed(2), '', null),
    row(`${part}: commands among these that list all datasets`, String(listings), '0', listings === 0),
  ];
}

const ROOTS = 1_000;
const ROOT_PARTS = 4;

async function roots(): Promise<PartResult> {
  const measured = await measureRootsOnOpenZfs(ROOTS, ROOT_PARTS);
  const spaces = measured.bytesAfter.slice(1).map(({ roots: upTo, bytes }, index) => {
    const before = measured.bytesAfter[index] ?? { roots: 0, bytes: 0 };
    const each = (bytes - before.bytes) / (upTo - before.roots);
    return row(`roots: space of each, ${before.roots} to ${upTo}`, `${each.toFixed(0)} bytes`, '', null);
  });
  const all = row(
    'roots: Prepares of one parent on OpenZFS',
    String(measured.roots),
    `${ROOTS}`,
    measured.roots === ROOTS,
  );
  return { rows: [all, ...rootRows('roots', measured), ...spaces], details: measured };
}

async function layers(): Promise<PartResult> {
  const measured = await measureLayers();
  const { prepareMs, viewMs, cloneMs, prepareRatio, roots, image, unpackSeconds, second, listMs } = measured;
  const size = `${image.megabytes.toFixed(0)} MB, ${image.files} files, 10 layers`;
  const told = (value: number, unit = 's'): string => `${value.toFixed(value < 10 ? 2 : 0)} ${unit}`;
  const listing = median(listMs);
  return {
    rows: [
      ratioRow('layers: Prepare / bare zfs clone', prepareRatio, PREPARE_RATIO_MAX),
      row(
        'layers: Prepare, and bare zfs clone',
        `${told(median(prepareMs), 'ms')}, ${told(median(cloneMs), 'ms')}`,
        '',
        null,
      ),
      row(
        'layers: View, which has no clone made in advance, / bare zfs clone',
        (median(viewMs) / median(cloneMs)).toFixed(2),
        '',
        null,
      ),
      ...rootRows('layers', roots),
      ratioRow(`layers: unpack ${size}, pando / native`, unpackSeconds.pando / unpackSeconds.native, UNPACK_RATIO_MAX),
      ...Object.entries(unpackSeconds).map(([how, seconds]) => row(`layers: unpack, ${how}`, told(seconds), '', null)),
      ratioRow('layers: second node, mirror / unpack', second.mirrorSeconds / second.unpackSeconds, MIRROR_RATIO_MAX),
      row('layers: second node, mirror', `${told(second.mirrorSeconds)}, ${second.mirrorBytes} bytes`, '', null),
      row('layers: second node, unpack', `${told(second.unpackSeconds)}, ${image.blobBytes} bytes`, '', null),
      row('layers: List of 10,000 snapshots', told(listing, 'ms'), `≤ ${LIST_MS_MAX} ms`, listing <= LIST_MS_MAX),
    ],
    details: measured,
  };
}

export const PARTS: Readonly<Record<string, () => Promise<PartResult>>> = {
  log,
  open: openLarge,
  sync,
  plan: planning,
  idle,
  rest,
  increments,
  bulk,
  handover,
  streams,
  long,
  hostile,
  family,
  layers,
  roots,
};
