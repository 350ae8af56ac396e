/**
 * Which module may import which (design §2). `npm run imports` checks src/ against these rules, and
 * `test/frame/imports.test.ts` checks that each rule bites.
 */

/** Each layer, and the layers below it that it may import. */
const layers = {
  core: [],
  log: ['core'],
  zfs: ['core'],
  sync: ['core', 'log', 'zfs'],
  transfer: ['core', 'log', 'zfs', 'sync'],
  features: ['core', 'log', 'zfs', 'sync', 'transfer'],
  interfaces: ['core', 'log', 'zfs', 'sync', 'transfer', 'features'],
};

/** Layers in which every module lives in a folder of its own, and no folder knows another. */
const layersOfStrangers = ['features', 'interfaces'];

/** The only place that puts the parts together: main.ts, and src/main/ should it grow. */
const main = '^src/main(\\.ts$|/)';

/** What stands behind a port. Everyone else is handed one and sees the port only. */
const adapters = {
  'level-log': '^src/log/level-log(\\.ts$|/)',
  'memory-log': '^src/log/memory-log(\\.ts$|/)',
  'zfs-cli': '^src/zfs/cli/',
  'zfs-memory': '^src/zfs/memory/',
  'websocket-transport': '^src/sync/.*websocket-transport(\\.ts$|/)',
  'memory-transport': '^src/sync/.*memory-transport(\\.ts$|/)',
};

/** Each third-party library and the folders that may import it. A library that is not named here may be imported nowhere. */
const libraryOwners = {
  '@grpc/grpc-js': ['^src/interfaces/grpc/'],
  '@grpc/proto-loader': ['^src/interfaces/grpc/'],
  '@peculiar/asn1-schema': ['^src/sync/'],
  '@peculiar/asn1-x509': ['^src/sync/'],
  '@scure/base': ['^src/core/'],
  commander: ['^src/interfaces/cli/'],
  execa: ['^src/zfs/'],
  fastify: ['^src/interfaces/http/'],
  level: ['^src/log/'],
  ms: ['^src/interfaces/cli/'],
  msgpackr: ['^src/core/codec/'],
  'p-queue': ['^src/transfer/'],
  picomatch: ['^src/core/'],
  pino: [main, '^src/interfaces/'],
  'pino-pretty': [main, '^src/interfaces/'],
  re2js: ['^src/core/'],
  'tar-stream': ['^src/features/layers/images/'],
  uqr: ['^src/interfaces/cli/'],
  undici: ['^src/interfaces/cli/', '^src/interfaces/http/'],
  uuid: ['^src/core/'],
  ws: ['^src/sync/'],
  yaml: [main, '^src/interfaces/'],
};

/** Whatever comes from outside is parsed where it comes in, so every layer may describe what it accepts. */
const commonLibraries = ['zod'];

/** Node modules without I/O, clock or timers. `node:crypto` is there for its hashes and signatures. */
const pureNodeModules = '^(node:)?crypto$';

const anyLayer = Object.keys(layers).join('|');

/** The files of a library or of its types, wherever the tree that holds them is mounted. */
function filesOf(library) {
  return `(^|/)node_modules/(@types/)?${library}/`;
}

function forbid(name, comment, from, to) {
  return { name, severity: 'error', comment, from, to };
}

const layerRules = Object.entries(layers).map(([layer, below]) =>
  forbid(
    `${layer}-imports-downwards`,
    `${layer} may import ${below.length === 0 ? 'no other layer' : below.join(', ')}.`,
    { path: `^src/${layer}/` },
    { path: '^src/', pathNot: `^src/(${[layer, ...below].join('|')})/` },
  ),
);

const strangerRules = layersOfStrangers.flatMap((layer) => [
  forbid(
    `${layer}-know-no-other`,
    `What two ${layer} need belongs in a layer below.`,
    { path: `^src/${layer}/([^/]+)/` },
    { path: `^src/${layer}/`, pathNot: `^src/${layer}/$1/` },
  ),
  forbid(`${layer}-have-folders`, 'One folder each, nothing beside them.', { path: `^src/${layer}/[^/]+$` }, {}),
]);

const adapterRules = Object.entries(adapters).map(([name, path]) =>
  forbid(
    `only-main-constructs-${name}`,
    'Import the port; main.ts decides what stands behind it.',
    { path: '^src/', pathNot: [main, path] },
    { path },
  ),
);

const libraryRules = Object.entries(libraryOwners).map(([library, owners]) =>
  forbid(
    `${library}-has-an-owner`,
    `Only ${owners.join(' and ')} may import ${library}.`,
    { path: '^src/', pathNot: owners },
    { path: filesOf(library) },
  ),
);

module.exports = {
  forbidden: [
    ...layerRules,
    ...strangerRules,
    ...adapterRules,
    ...libraryRules,
    forbid(
      'library-without-owner',
      'Name the folder that owns the library in .dependency-cruiser.cjs, or do without it.',
      { path: '^src/' },
      { path: '(^|/)node_modules/', pathNot: [...Object.keys(libraryOwners), ...commonLibraries].map(filesOf) },
    ),
    forbid(
      'core-is-pure',
      'core has no I/O, no clock and no randomness: take what you need as an argument.',
      { path: '^src/core/' },
      { dependencyTypes: ['core'], pathNot: pureNodeModules },
    ),
    forbid(
      'src-stands-alone',
      'Tests and peers build on src, never the other way.',
      { path: '^src/' },
      {
        path: '^(test|peers|fixtures)/',
      },
    ),
    forbid(
      'file-outside-layers',
      `Every file of src but main.ts belongs to a layer: ${Object.keys(layers).join(', ')}.`,
      { path: '^src/', pathNot: [`^src/(${anyLayer})/`, main] },
      {},
    ),
    forbid('no-cycles', 'Two modules that need each other are one, or need a third.', {}, { circular: true }),
    forbid('no-orphans', 'Nothing imports this file, and it imports nothing.', { orphan: true, pathNot: main }, {}),
    forbid('no-unresolvable-imports', 'There is no such module.', {}, { couldNotResolve: true }),
  ],
  options: {
    // Types count: a type-only import ties two modules together just as firmly.
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.js', '.json', '.d.ts'],
    },
  },
};
