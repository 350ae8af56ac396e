import type { Command } from 'commander';
import { unixMsOf } from '../../../core/clock.ts';
import { isPandoError } from '../../../core/errors.ts';
import type { Event } from '../../../core/events.ts';
import type { Graph } from '../../../core/graph/graph.ts';
import { type CommandContext, examples, positiveInteger, type Runner } from '../command-context.ts';
import type { DaemonClient } from '../daemon-client.ts';
import { DatasetNames, describeEvent } from '../describe-event.ts';
import type { ExitCode } from '../exit-codes.ts';
import { formatTime } from '../format.ts';
import { readEvents, withTime } from '../reading-events.ts';

interface LogOptions {
  readonly node?: string;
  readonly follow?: boolean;
  readonly from?: string;
  readonly transfers?: boolean;
}

/** Width that most sequence numbers and the longest cause need. */
const SEQ_WIDTH = 5;
const CAUSE_WIDTH = 8;

/** The graph that knows names of datasets older than what is read; none where the tree is gone. */
async function currentGraph(client: DaemonClient, tree: string, node: string | undefined): Promise<Graph | undefined> {
  try {
    return await client.graph(tree, { node, at: undefined });
  } catch (error) {
    if (isPandoError(error, 'TREE_UNKNOWN')) return undefined;
    throw error;
  }
}

function writeEvent(context: CommandContext, event: Event, names: DatasetNames): void {
  if (context.json) {
    context.output.json(withTime(event));
    return;
  }
  const at = unixMsOf(event.at);
  const seq = String(event.seq).padStart(SEQ_WIDTH);
  context.output.line(`${formatTime(at)}  ${seq}  ${event.cause.padEnd(CAUSE_WIDTH)}  ${describeEvent(event, names)}`);
}

async function showLog(
  context: CommandContext,
  tree: string | undefined,
  { node, follow = false, from: text, transfers = false }: LogOptions,
): Promise<ExitCode> {
  const from = text === undefined ? undefined : positiveInteger('--from', text);
  const client = await context.client();
  const fallback = tree === undefined || context.json ? undefined : await currentGraph(client, tree, node);
  const names = new DatasetNames(tree ?? '', fallback);
  return readEvents(context, { tree, node, from, transfers, follow }, (event) => {
    names.learn(event);
    writeEvent(context, event, names);
  });
}

export function addLog(program: Command, run: Runner): void {
  program
    .command('log')
    .description('show what happened to a tree; without one, to the settings of this node')
    .argument('[tree]', 'name of the tree')
    .option('--node <peer>', 'what a peer tells of its copy of the tree')
    .option('--transfers', 'the transfers that this node took part in, instead of its settings')
    .option('-f, --follow', 'go on with what happens from now, until Ctrl-C')
    .option('--from <seq>', 'begin with the event of that number')
    .addHelpText('after', examples('pando log', 'pando log images --from 100', 'pando log images --follow --json'))
    .action(run(showLog));
}
