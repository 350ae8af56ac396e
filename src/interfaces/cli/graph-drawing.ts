/** A tree's graph as people see it: which dataset grew from which snapshot. */
import { type Dataset, type Graph, snapshotOf } from '../../core/graph/graph.ts';
import { formatBytes, formatPlace } from './format.ts';

const BRANCH = '├── ';
const LAST_BRANCH = '└── ';
const BAR = '│   ';
const BLANK = '    ';

interface Drawing {
  readonly text: string;
  readonly below: readonly Drawing[];
}

/** Whether the snapshot that a dataset grew from is in the graph, so that it can be drawn below it. */
function growsHere(graph: Graph, { origin }: Dataset): boolean {
  const parent = origin?.dataset == null ? undefined : graph.get(origin.dataset);
  return origin != null && parent !== undefined && snapshotOf(parent, origin.snapshot) !== undefined;
}

/** How a dataset's origin is written behind it. */
function originText(tree: string, graph: Graph, { origin }: Dataset): string {
  if (origin === null) return '';
  const parent = origin.dataset === null ? undefined : graph.get(origin.dataset);
  const snapshot = parent === undefined ? undefined : snapshotOf(parent, origin.snapshot);
  if (parent === undefined || snapshot === undefined) return ` ← ${origin.snapshot} (not in this tree)`;
  return ` ← ${formatPlace(tree, parent.name)}@${snapshot.name}`;
}

function drawDataset(tree: string, graph: Graph, dataset: Dataset): Drawing {
  return {
    text: `${formatPlace(tree, dataset.name)}${originText(tree, graph, dataset)}`,
    below: dataset.snapshots.map((snapshot) => ({
      text: `@${snapshot.name}  ${snapshot.guid}  ${formatBytes(snapshot.referenced)}`,
      below: graph
        .clonesOf(snapshot.guid)
        .filter(({ origin }) => origin?.dataset === dataset.id)
        .map((clone) => drawDataset(tree, graph, clone)),
    })),
  };
}

function* linesOf({ text, below }: Drawing, indent: string): Generator<string> {
  yield text;
  for (const [index, child] of below.entries()) {
    const isLast = index === below.length - 1;
    const inner = indent + (isLast ? BLANK : BAR);
    let head = indent + (isLast ? LAST_BRANCH : BRANCH);
    for (const line of linesOf(child, inner)) {
      yield head + line;
      head = '';
    }
  }
}

/** Lines that draw the clone hierarchy: below each dataset its snapshots, oldest first, and below each snapshot its clones. */
export function* drawGraph(tree: string, graph: Graph): Generator<string> {
  for (const dataset of graph.sorted()) {
    if (!growsHere(graph, dataset)) yield* linesOf(drawDataset(tree, graph, dataset), '');
  }
}

function quoted(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

function* dotOfDataset(tree: string, dataset: Dataset): Generator<string> {
  yield `  ${quoted(dataset.id)} [label=${quoted(formatPlace(tree, dataset.name))}, shape=folder];`;
  let before: string = dataset.id;
  for (const { guid, name } of dataset.snapshots) {
    const id = `${dataset.id}@${guid}`;
    yield `  ${quoted(id)} [label=${quoted(`@${name}`)}, tooltip=${quoted(guid)}];`;
    yield `  ${quoted(before)} -> ${quoted(id)};`;
    before = id;
  }
  const { origin } = dataset;
  if (origin?.dataset != null) {
    yield `  ${quoted(`${origin.dataset}@${origin.snapshot}`)} -> ${quoted(dataset.id)} [style=dashed];`;
  }
}

/** The same for Graphviz: solid edges along a dataset's snapshots, dashed ones from an origin to its clone. */
export function* dotGraph(tree: string, graph: Graph): Generator<string> {
  yield `digraph ${quoted(tree)} {`;
  yield '  rankdir=LR;';
  yield '  node [shape=box];';
  for (const dataset of graph.sorted()) yield* dotOfDataset(tree, dataset);
  yield '}';
}
