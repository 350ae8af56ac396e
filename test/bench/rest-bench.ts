/**
 * What a node costs that has nothing to do, over a million snapshots: the daemon as it is installed, on a `zfs` that prints what a tree of that size would, since no pool here could be made so
 * large in reasonable time. The time of that `zfs` is left out; what the node does with its answers is not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import type { Dataset, Graph } from '../../src/core/graph/graph.ts';
import { absoluteName, ID_PROPERTY } from '../../src/core/ids.ts';
import { createIdentity } from '../../src/sync/identity.ts';
import { OPENZFS_COLUMNS } from '../../src/zfs/cli/rows.ts';
import { builtProgram } from '../torture/host.ts';
import { type GraphShape, generateGraph } from './generated-graph.ts';

const REST_SECONDS = 60;
/** Questions whether anything has changed, behind the last listing of all: `snapshots_changed` has to be old enough to be trusted, and a look that took long is followed by a long wait. */
const QUESTIONS_BEFORE = 3;
const POLL_MS = 500;
const SETTLING_MS_MAX = 1_200_000;
/** As the kernel counts (proc_pid_stat(5)): USER_HZ is 100 on Linux. */
const TICKS_PER_SECOND = 100;
const MEGABYTE = 1_000_000;
const PAGE_BYTES = 4096;

export interface RestTimes {
  readonly snapshots: number;
  readonly seconds: number;
  /** Of the node itself, without what it starts. */
  readonly cpuSeconds: number;
  /** Commands of `zfs` in that time. */
  readonly commands: number;
  readonly residentMegabytes: number;
}

export async function measureRest(shape: GraphShape): Promise<RestTimes> {
  const directory = await mkdtemp(join(tmpdir(), 'pando-bench-rest-'));
  let daemon: ChildProcess | undefined;
  try {
    const graph = generateGraph(shape, createIdentity().node);
    const commands = await writeZfs(directory, graph);
    const config = join(directory, 'pando.yaml');
    await writeFile(config, 'dataDirectory: data\nlisten: 127.0.0.1:0\nsnapshotter:\n  socket: null\n');
    const env = { ...process.env, PATH: `${join(directory, 'bin')}:${process.env.PATH}` };
    const pando = (...words: string[]) => [builtProgram(), '--config', config, ...words];
    daemon = spawn(process.execPath, pando('serve'), { env, stdio: 'ignore' });
    const { pid } = daemon;
    if (pid === undefined) throw new Error('The node could not be started.');
    await until(async () => (await execa(process.execPath, pando('status'), { reject: false })).exitCode === 0);
    await execa(process.execPath, pando('tree', 'add', 'images', `${graph.root}`));
    await until(async () => (await questionsSince(commands)) >= QUESTIONS_BEFORE);
    const [before, asked] = [await usageOf(pid), await linesIn(commands)];
    await delay(REST_SECONDS * 1000);
    const [after, askedThen] = [await usageOf(pid), await linesIn(commands)];
    return {
      snapshots: graph.snapshotCount,
      seconds: REST_SECONDS,
      cpuSeconds: after.cpuSeconds - before.cpuSeconds,
      commands: askedThen - asked,
      residentMegabytes: after.residentMegabytes,
    };
  } finally {
    if (daemon?.exitCode === null && daemon.kill('SIGTERM')) await once(daemon, 'exit');
    await rm(directory, { recursive: true, force: true });
  }
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + SETTLING_MS_MAX;
  while (!(await isSo())) {
    if (performance.now() > giveUpAt) throw new Error('The node does not come to rest.');
    await delay(POLL_MS);
  }
}

async function usageOf(pid: number): Promise<{ readonly cpuSeconds: number; readonly residentMegabytes: number }> {
  // The name of the program, in parentheses, may have spaces
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8'))
    .replace(/^.*\) /, '')
    .split(' ')
    .map(Number);
  const [user = 0, system = 0] = fields.slice(11, 13);
  return {
    cpuSeconds: (user + system) / TICKS_PER_SECOND,
    residentMegabytes: ((fields[21] ?? 0) * PAGE_BYTES) / MEGABYTE,
  };
}

/** How often it was asked whether anything has changed since all was listed last. */
async function questionsSince(commands: string): Promise<number> {
  const asked = (await readFile(commands, 'utf8')).split('\n');
  const listed = asked.findLastIndex((command) => command.includes('bookmark'));
  return listed === -1 ? 0 : asked.slice(listed).filter((command) => command.includes('snapshots_changed')).length;
}

async function linesIn(path: string): Promise<number> {
  return (await readFile(path, 'utf8')).split('\n').length - 1;
}

/** Writes programs that answer like OpenZFS 2.3 with the tree of a graph, and gives the file in which each command has a line. */
async function writeZfs(directory: string, graph: Graph): Promise<string> {
  const datasets = graph.sorted();
  const nameOf = ({ name }: Dataset): string => absoluteName(graph.root ?? ('tank' as never), name);
  const originOf = ({ origin }: Dataset): string => {
    const below = origin?.dataset ? graph.get(origin.dataset) : undefined;
    const snapshot = below?.snapshots.find(({ guid }) => guid === origin?.snapshot);
    return below === undefined || snapshot === undefined ? '-' : `${nameOf(below)}@${snapshot.name}`;
  };
  const rows = datasets.map((dataset, index) => {
    const name = nameOf(dataset);
    const own = {
      type: 'filesystem',
      guid: dataset.guid,
      createtxg: index + 1,
      creation: 1,
      origin: originOf(dataset),
    };
    const snapshots = dataset.snapshots.map((snapshot) =>
      line(`${name}@${snapshot.name}`, { type: 'snapshot', ...snapshot }),
    );
    return [line(name, { ...own, referenced: 1, written: 0 }), ...snapshots].join('');
  });
  const answers: Readonly<Record<string, string>> = {
    names: datasets.map((dataset) => `${nameOf(dataset)}\n`).join(''),
    rows: rows.join(''),
    changed: datasets
      .map((dataset) => `${nameOf(dataset)}\t${dataset.guid}\t${originOf(dataset)}\t1767225600\n`)
      .join(''),
    properties: datasets.map((dataset) => `${nameOf(dataset)}\t${ID_PROPERTY}\t${dataset.id}\n`).join(''),
  };
  for (const [name, text] of Object.entries(answers)) await writeFile(join(directory, name), text);
  const commands = join(directory, 'commands');
  await writeFile(commands, '');
  await mkdir(join(directory, 'bin'));
  const patterns = [
    ['version', 'echo zfs-2.3.2-1'],
    ['"list -H -r "*"-o name "*', `cat ${directory}/names`],
    ['*snapshots_changed*', `cat ${directory}/changed`],
    ['"list "*', `cat ${directory}/rows`],
    ['*" all "*', `cat ${directory}/properties`],
  ];
  const cases = patterns.map(([pattern, command]) => `  ${pattern}) ${command} ;;\n`).join('');
  await writeProgram(
    directory,
    'zfs',
    `echo "$*" >> ${commands}\ncase "$*" in\n${cases}  *) echo "$*" >&2; exit 1 ;;\nesac\n`,
  );
  await writeProgram(directory, 'zpool', 'echo tank\n');
  return commands;
}

/** One line of what is listed, with `-` for what is not said. */
function line(name: string, said: Readonly<Record<string, unknown>>): string {
  return `${[name, ...OPENZFS_COLUMNS.map((column) => said[column] ?? (column === 'userrefs' ? 0 : '-'))].join('\t')}\n`;
}

async function writeProgram(directory: string, name: string, script: string): Promise<void> {
  const path = join(directory, 'bin', name);
  await writeFile(path, `#!/bin/sh\n${script}`);
  await chmod(path, 0o755);
}
