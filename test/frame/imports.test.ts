import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runScript, type ScriptResult, writeTree } from './run-script.ts';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const command = fileURLToPath(new URL('./check-imports.mjs', import.meta.url));

/** A tree of sources that keeps every rule; each violation is one file more. */
const lawful = {
  'src/core/ids.ts': "import { createHash } from 'node:crypto';\nimport 'uuid';\nexport const hash = createHash;\n",
  'src/core/codec/codec.ts':
    "import 'msgpackr';\nimport type { hash } from '../ids.ts';\nexport type H = typeof hash;\n",
  'src/log/log.ts': "import type { H } from '../core/codec/codec.ts';\nexport type Log = H;\n",
  'src/log/level-log.ts':
    "import 'level';\nimport type { Log } from './log.ts';\nexport const open = (log: Log) => log;\n",
  'src/zfs/zfs.ts': "import type { H } from '../core/codec/codec.ts';\nexport type Zfs = H;\n",
  'src/zfs/cli/driver.ts': "import 'execa';\nimport './parse.ts';\nimport '../zfs.ts';\n",
  'src/zfs/cli/parse.ts': "import '../../core/ids.ts';\n",
  'src/sync/session.ts': "import 'ws';\nimport 'zod';\nimport '../log/log.ts';\nimport '../zfs/zfs.ts';\n",
  'src/transfer/queue.ts': "import 'p-queue';\nimport '../sync/session.ts';\n",
  'src/features/layers/layers.ts': "import '../../transfer/queue.ts';\nimport './tar.ts';\n",
  'src/features/layers/tar.ts': "import 'node:fs';\n",
  'src/features/volumes/volumes.ts': "import '../../transfer/queue.ts';\n",
  'src/interfaces/cli/cli.ts': "import 'commander';\nimport '../../features/layers/layers.ts';\n",
  'src/interfaces/http/http.ts': "import 'fastify';\nimport '../../features/volumes/volumes.ts';\n",
  'src/main.ts':
    "import './interfaces/cli/cli.ts';\nimport './interfaces/http/http.ts';\nimport './log/level-log.ts';\nimport './zfs/cli/driver.ts';\n",
  'peers/demo/demo.ts': 'export const demo = 1;\n',
  'test/core/ids.ts': 'export const ids = 1;\n',
};

/** A file in the folder `in` that imports `imports` and so breaks the rule `breaks`, and no other. */
interface Violation {
  readonly breaks: string;
  readonly in: string;
  readonly imports: readonly string[];
}

const violations: readonly Violation[] = [
  { breaks: 'core-imports-downwards', in: 'src/core', imports: ['../log/log.ts'] },
  { breaks: 'log-imports-downwards', in: 'src/log', imports: ['../zfs/zfs.ts'] },
  { breaks: 'zfs-imports-downwards', in: 'src/zfs', imports: ['../log/log.ts'] },
  { breaks: 'sync-imports-downwards', in: 'src/sync', imports: ['../transfer/queue.ts'] },
  { breaks: 'transfer-imports-downwards', in: 'src/transfer', imports: ['../features/layers/layers.ts'] },
  { breaks: 'features-imports-downwards', in: 'src/features/layers', imports: ['../../interfaces/cli/cli.ts'] },
  { breaks: 'interfaces-imports-downwards', in: 'src/interfaces/cli', imports: ['../../main.ts'] },
  { breaks: 'features-know-no-other', in: 'src/features/layers', imports: ['../volumes/volumes.ts'] },
  { breaks: 'interfaces-know-no-other', in: 'src/interfaces/cli', imports: ['../http/http.ts'] },
  { breaks: 'features-have-folders', in: 'src/features', imports: ['../core/ids.ts'] },
  { breaks: 'interfaces-have-folders', in: 'src/interfaces', imports: ['../core/ids.ts'] },
  { breaks: 'only-main-constructs-level-log', in: 'src/log', imports: ['./level-log.ts'] },
  { breaks: 'only-main-constructs-memory-log', in: 'src/log', imports: ['./memory-log.ts'] },
  { breaks: 'only-main-constructs-zfs-cli', in: 'src/features/layers', imports: ['../../zfs/cli/driver.ts'] },
  { breaks: 'only-main-constructs-zfs-memory', in: 'src/transfer', imports: ['../zfs/memory/memory-zfs.ts'] },
  { breaks: 'only-main-constructs-websocket-transport', in: 'src/sync', imports: ['./websocket-transport.ts'] },
  { breaks: 'only-main-constructs-memory-transport', in: 'src/sync', imports: ['./memory-transport.ts'] },
  { breaks: '@grpc/grpc-js-has-an-owner', in: 'src/interfaces/http', imports: ['@grpc/grpc-js'] },
  { breaks: '@grpc/proto-loader-has-an-owner', in: 'src/core', imports: ['@grpc/proto-loader'] },
  { breaks: '@peculiar/asn1-schema-has-an-owner', in: 'src/core', imports: ['@peculiar/asn1-schema'] },
  { breaks: '@peculiar/asn1-x509-has-an-owner', in: 'src/core', imports: ['@peculiar/asn1-x509'] },
  { breaks: '@scure/base-has-an-owner', in: 'src/sync', imports: ['@scure/base'] },
  { breaks: 'commander-has-an-owner', in: 'src/main', imports: ['commander'] },
  { breaks: 'execa-has-an-owner', in: 'src/transfer', imports: ['execa'] },
  { breaks: 'fastify-has-an-owner', in: 'src/interfaces/cli', imports: ['fastify'] },
  { breaks: 'level-has-an-owner', in: 'src/zfs', imports: ['level'] },
  { breaks: 'ms-has-an-owner', in: 'src/core', imports: ['ms'] },
  { breaks: 'msgpackr-has-an-owner', in: 'src/core', imports: ['msgpackr'] },
  { breaks: 'p-queue-has-an-owner', in: 'src/sync', imports: ['p-queue'] },
  { breaks: 'picomatch-has-an-owner', in: 'src/sync', imports: ['picomatch'] },
  { breaks: 'pino-has-an-owner', in: 'src/sync', imports: ['pino'] },
  { breaks: 'pino-pretty-has-an-owner', in: 'src/log', imports: ['pino-pretty'] },
  { breaks: 're2js-has-an-owner', in: 'src/zfs', imports: ['re2js'] },
  { breaks: 'tar-stream-has-an-owner', in: 'src/features/trees', imports: ['tar-stream'] },
  { breaks: 'uqr-has-an-owner', in: 'src/features/trees', imports: ['uqr'] },
  { breaks: 'undici-has-an-owner', in: 'src/main', imports: ['undici'] },
  { breaks: 'uuid-has-an-owner', in: 'src/log', imports: ['uuid'] },
  { breaks: 'ws-has-an-owner', in: 'src/interfaces/http', imports: ['ws'] },
  { breaks: 'yaml-has-an-owner', in: 'src/core', imports: ['yaml'] },
  { breaks: 'library-without-owner', in: 'src/log', imports: ['vitest'] },
  { breaks: 'core-is-pure', in: 'src/core', imports: ['node:fs/promises'] },
  { breaks: 'core-is-pure', in: 'src/core', imports: ['timers'] },
  { breaks: 'src-stands-alone', in: 'src/log', imports: ['../../test/core/ids.ts'] },
  { breaks: 'src-stands-alone', in: 'src/log', imports: ['../../peers/demo/demo.ts'] },
  { breaks: 'file-outside-layers', in: 'src', imports: ['./core/ids.ts'] },
  { breaks: 'file-outside-layers', in: 'src/shared', imports: ['../core/ids.ts'] },
  { breaks: 'no-orphans', in: 'src/core', imports: [] },
  { breaks: 'no-unresolvable-imports', in: 'src/core', imports: ['./nowhere.ts'] },
];

/** What the violations need beside the lawful tree: nobody in it imports these. */
const bystanders = {
  'src/log/memory-log.ts': "import './log.ts';\n",
  'src/zfs/memory/memory-zfs.ts': "import '../zfs.ts';\n",
  'src/sync/websocket-transport.ts': "import 'ws';\n",
  'src/sync/memory-transport.ts': "import './session.ts';\n",
  'src/zfs/hen.ts': "import type { Egg } from './egg.ts';\nexport type Hen = Egg;\n",
  'src/zfs/egg.ts': "import type { Hen } from './hen.ts';\nexport type Egg = Hen;\n",
};

const directories: string[] = [];
afterAll(async () => {
  await Promise.all(directories.splice(0).map((directory) => rm(directory, { recursive: true })));
});

async function check(files: Readonly<Record<string, string>>): Promise<ScriptResult> {
  const root = await mkdtemp(join(tmpdir(), 'pando-imports-'));
  directories.push(root);
  await symlink(join(checkout, 'node_modules'), join(root, 'node_modules'));
  await writeTree(root, files);
  return runScript(command, root);
}

/** The text of a file with these imports; relative ones import types only, which must count as much as any other. */
function importing(modules: readonly string[]): string {
  return modules.map((name) => `import ${name.startsWith('.') ? 'type {} from ' : ''}'${name}';\n`).join('');
}

describe('the direction of imports', () => {
  test('a tree that keeps every rule passes, and all of its files were seen', async () => {
    const result = await check(lawful);
    expect(result.problems).toEqual([]);
    expect(result.stdout).toMatch(/^15 modules of 15 files, \d+ imports, 0 violations\n$/);
    expect(result.exitCode).toBe(0);
  });

  test('a tree without sources fails', async () => {
    const result = await check({ 'src/core/ids.js': 'export {};\n' });
    expect(result.problems).toContain('no-sources: there is not one TypeScript file under src');
    expect(result.exitCode).toBe(1);
  });

  describe('in a tree where one file breaks each rule', () => {
    let problems: readonly string[];
    let exitCode: unknown;

    beforeAll(async () => {
      const wrong = violations.map((violation, index) => [fileOf(violation, index), importing(violation.imports)]);
      ({ problems, exitCode } = await check({ ...lawful, ...bystanders, ...Object.fromEntries(wrong) }));
    });

    test('the check fails', () => {
      expect(exitCode).toBe(1);
    });

    test.each(violations.map((violation, index) => ({ ...violation, file: fileOf(violation, index) })))(
      '$breaks: refuses $imports in $in',
      ({ breaks, file }) => {
        const broken = problems
          .filter((problem) => problem.includes(` ${file} -> `))
          .map((problem) => problem.split(':')[0]);
        expect(broken).toEqual([breaks]);
      },
    );

    test('no-cycles: refuses two files that import each other, be it types only', () => {
      expect(problems).toContainEqual(expect.stringMatching(/^no-cycles: .*src\/zfs\/hen\.ts -> src\/zfs\/egg\.ts/));
    });

    test('every rule is broken by one of these files', () => {
      const { forbidden } = createRequire(import.meta.url)('../../.dependency-cruiser.cjs');
      const rules = forbidden.map(({ name }: { name: string }) => name);
      expect(new Set([...violations.map(({ breaks }) => breaks), 'no-cycles'])).toEqual(new Set(rules));
    });
  });
});

function fileOf(violation: Violation, index: number): string {
  return `${violation.in}/wrong-${index}.ts`;
}
