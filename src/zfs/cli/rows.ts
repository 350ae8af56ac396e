/** Parsers for what the two dialects print, line by line. */

/** Columns of one dataset or snapshot, as ZFS writes them: numbers in full, `-` where there is nothing. */
export interface Row {
  readonly name: string;
  readonly type: string;
  readonly guid: string;
  readonly createtxg: string;
  readonly creation: string;
  readonly origin: string;
  readonly referenced: string;
  /** Missing on zfs-fuse. */
  readonly written: string;
  readonly userrefs: string;
  /** Missing on zfs-fuse. */
  readonly encryptionroot: string;
  /** Missing on zfs-fuse. */
  readonly receive_resume_token: string;
}

/** Properties in the order in which `zfs list -o name,…` is asked for them. */
export const OPENZFS_COLUMNS = [
  'type',
  'guid',
  'createtxg',
  'creation',
  'origin',
  'referenced',
  'written',
  'userrefs',
  'encryptionroot',
  'receive_resume_token',
] as const;

/** Those that zfs-fuse does not know. */
const NOT_ON_ZFS_FUSE: readonly string[] = ['written', 'encryptionroot', 'receive_resume_token'];
/** Properties in the order in which `zfs get` is asked for them on zfs-fuse. */
export const ZFS_FUSE_PROPERTIES = OPENZFS_COLUMNS.filter((property) => !NOT_ON_ZFS_FUSE.includes(property));

type Column = (typeof OPENZFS_COLUMNS)[number];
const EMPTY: Record<Column, string> = {
  type: '-',
  guid: '-',
  createtxg: '-',
  creation: '-',
  origin: '-',
  referenced: '-',
  written: '-',
  userrefs: '-',
  encryptionroot: '-',
  receive_resume_token: '-',
};

/** Reads one line of `zfs list -Hp -o name,…` with {@link OPENZFS_COLUMNS}. */
export function openZfsRow(line: string): Row {
  const [name = '', ...values] = line.split('\t');
  const columns = { ...EMPTY };
  OPENZFS_COLUMNS.forEach((column, index) => {
    columns[column] = values[index] ?? '-';
  });
  return { name, ...columns };
}

/** Reads the lines of `zfs get -Hp -o name,property,value` with {@link ZFS_FUSE_PROPERTIES}: several make one row. */
export class ZfsFuseRows {
  readonly #onRow: (row: Row) => void;
  #columns = { ...EMPTY };

  constructor(onRow: (row: Row) => void) {
    this.#onRow = onRow;
  }

  accept(line: string): void {
    const [name = '', property = '', value = '-'] = line.split('\t');
    if (!isColumn(property)) return;
    this.#columns[property] = value;
    if (property !== ZFS_FUSE_PROPERTIES.at(-1)) return;
    this.#onRow({ name, ...this.#columns });
    this.#columns = { ...EMPTY };
  }
}

function isColumn(property: string): property is Column {
  return Object.hasOwn(EMPTY, property);
}

/** What a property's name looks like, native or the user's own (zfsprops.7). */
const PROPERTY_NAME = /^[a-z0-9][a-z0-9:_.+@-]*$/;

/**
 * Reads the lines of `zfs get -Hp -o name,property,value`. A value may hold tabs and newlines: whatever does not begin with one of the
 * datasets asked for and a property's name belongs to the value before it.
 */
export class PropertyRows {
  readonly #values: ReadonlyMap<string, Map<string, string>>;
  #last: { readonly properties: Map<string, string>; readonly property: string } | null = null;

  constructor(datasets: Iterable<string>) {
    this.#values = new Map(Array.from(datasets, (name) => [name, new Map<string, string>()]));
  }

  accept(line: string): void {
    const [name = '', property = '', ...value] = line.split('\t');
    const properties = this.#values.get(name);
    if (properties !== undefined && value.length > 0 && PROPERTY_NAME.test(property)) {
      properties.set(property, value.join('\t'));
      this.#last = { properties, property };
    } else if (this.#last !== null) {
      const { properties: open, property: continued } = this.#last;
      open.set(continued, `${open.get(continued) ?? ''}\n${line}`);
    }
  }

  of(dataset: string): Record<string, string> {
    return Object.fromEntries(this.#values.get(dataset) ?? []);
  }
}
