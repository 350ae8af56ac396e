import type { DatasetId, RelativeName } from '../ids.ts';
import type { Dataset } from './graph.ts';

interface Node {
  component: string;
  parent: Node | null;
  id: DatasetId | null;
  readonly children: Map<string, Node>;
}

function newNode(component: string, parent: Node | null): Node {
  return { component, parent, id: null, children: new Map() };
}

/** Names of datasets as the tree they are: a dataset that moves takes along all below it, at the cost of its depth. */
export class NameTree {
  readonly #root = newNode('', null);
  readonly #nodes = new Map<DatasetId, Node>();

  constructor(datasets: Iterable<Pick<Dataset, 'id' | 'name'>>) {
    for (const { id, name } of datasets) this.add(id, name);
  }

  /** The dataset of that name. */
  holder(name: RelativeName): DatasetId | undefined {
    return this.#find(name)?.id ?? undefined;
  }

  has(id: DatasetId): boolean {
    return this.#nodes.has(id);
  }

  nameOf(id: DatasetId): RelativeName | undefined {
    const node = this.#nodes.get(id);
    if (node === undefined) return undefined;
    const components: string[] = [];
    for (let at: Node = node; at.parent !== null; at = at.parent) components.push(at.component);
    return components.reverse().join('/') as RelativeName;
  }

  /** The dataset itself and those above it, nearest first. */
  lineOf(id: DatasetId): DatasetId[] {
    const line: DatasetId[] = [];
    for (let at = this.#nodes.get(id) ?? null; at !== null; at = at.parent) if (at.id !== null) line.push(at.id);
    return line;
  }

  /** The datasets right below one. */
  childrenOf(id: DatasetId): DatasetId[] {
    const children = this.#nodes.get(id)?.children.values() ?? [];
    return Array.from(children, (child) => child.id).filter((child) => child !== null);
  }

  /** The datasets below a name, whether anything has that or not, that have none of the others above them. */
  nearestBelow(name: RelativeName): DatasetId[] {
    const nearest: DatasetId[] = [];
    const open = [this.#find(name)];
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      for (const child of node.children.values()) {
        if (child.id === null) open.push(child);
        else nearest.push(child.id);
      }
    }
    return nearest;
  }

  remove(id: DatasetId): void {
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    node.id = null;
    if (node.children.size === 0) node.parent?.children.delete(node.component);
    this.#nodes.delete(id);
  }

  add(id: DatasetId, name: RelativeName): void {
    let node = this.#root;
    for (const component of name === '' ? [] : name.split('/')) node = childOf(node, component);
    node.id = id;
    this.#nodes.set(id, node);
  }

  /**
   * Moves a dataset with all below it to a name that nothing has, and that does not lie below itself. The top of the tree is a place: who leaves it goes alone, and
   * who takes it brings what lies below itself beside what is there, under names that are free.
   */
  move(id: DatasetId, to: RelativeName): void {
    const node = this.#nodes.get(id);
    if (node === undefined || this.nameOf(id) === to) return;
    if (node.parent === null) {
      this.remove(id);
      this.add(id, to);
      return;
    }
    if (to === '') {
      node.parent.children.delete(node.component);
      for (const child of node.children.values()) this.#graft(child, this.#root);
      this.add(id, to);
      return;
    }
    const slash = to.lastIndexOf('/');
    let parent = this.#root;
    for (const component of slash < 0 ? [] : to.slice(0, slash).split('/')) parent = childOf(parent, component);
    node.parent.children.delete(node.component);
    node.component = to.slice(slash + 1);
    node.parent = parent;
    parent.children.set(node.component, node);
  }

  /** Puts a node with all below it under another one, beside or into what has its name there. */
  #graft(node: Node, parent: Node): void {
    const there = parent.children.get(node.component);
    if (there === undefined) {
      node.parent = parent;
      parent.children.set(node.component, node);
      return;
    }
    if (node.id !== null) {
      there.id = node.id;
      this.#nodes.set(node.id, there);
    }
    for (const child of node.children.values()) this.#graft(child, there);
  }

  #find(name: RelativeName): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const component of name === '' ? [] : name.split('/')) node = node?.children.get(component);
    return node;
  }
}

function childOf(node: Node, component: string): Node {
  const known = node.children.get(component);
  if (known !== undefined) return known;
  const child = newNode(component, node);
  node.children.set(component, child);
  return child;
}
