import { type Command, Option } from 'commander';
import { PandoError } from '../../../core/errors.ts';
import { type CommandContext, examples, type Runner } from '../command-context.ts';
import { dotGraph, drawGraph } from '../graph-drawing.ts';

const FORMATS = ['tree', 'json', 'dot'] as const;

interface GraphOptions {
  readonly node?: string;
  readonly at?: string;
  readonly format: (typeof FORMATS)[number];
}

/** Reads a moment as ISO 8601 writes it; without an offset it is local time. Gives Unix ms. */
function parseMoment(text: string): number {
  const moment = /^\d{4}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(moment)) return moment;
  throw new PandoError('ARGUMENT_INVALID', `"${text}" is not a time; write it like 2026-03-01T12:00:00Z.`);
}

async function showGraph(context: CommandContext, tree: string, { node, at, format }: GraphOptions): Promise<void> {
  const moment = at === undefined ? undefined : parseMoment(at);
  const graph = await (await context.client()).graph(tree, { node, at: moment });
  if (context.json || format === 'json') {
    return context.output.json({ tree, root: graph.root, datasets: graph.sorted() });
  }
  const lines = format === 'dot' ? dotGraph(tree, graph) : drawGraph(tree, graph);
  for (const line of lines) {
    context.output.line(line);
    if (!(await context.output.drained())) return;
  }
}

export function addGraph(program: Command, run: Runner): void {
  program
    .command('graph')
    .description('show the datasets of a tree, their snapshots, and which grew from which')
    .argument('<tree>', 'name of the tree')
    .option('--node <peer>', "a peer's copy of the tree, as that peer tells it")
    .option('--at <time>', 'as it was at a moment (ISO 8601)')
    .addOption(
      new Option('--format <format>', 'lines for people, JSON, or input for Graphviz').choices(FORMATS).default('tree'),
    )
    .addHelpText(
      'after',
      examples(
        'pando graph images',
        'pando graph images --node build --at 2026-03-01T12:00:00Z',
        'pando graph images --format dot | dot -Tsvg > images.svg',
      ),
    )
    .action(run(showGraph));
}
