import { cp, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runScript, type ScriptResult, writeTree } from './run-script.ts';

const bootstrap = 'peers/provision/bootstrap.mjs';
const checkout = fileURLToPath(new URL('../..', import.meta.url));
const built = 'Building dist/ (npm run build) …\n';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'pando-bootstrap-'));
  await cp(join(checkout, bootstrap), join(root, bootstrap));
  await writeTree(root, {
    'package.json': JSON.stringify({
      scripts: { build: 'mkdir -p dist/src && cat src/core/ids.ts > dist/src/main.js' },
    }),
    'package-lock.json': '{}',
    'tsconfig.json': '{}',
    'tsconfig.build.json': '{}',
    'src/core/ids.ts': 'first',
    'test/bench/bench.ts': '',
    'start.mjs': `import { ensureBuild } from './${bootstrap}';\nawait ensureBuild();\n`,
  });
});
afterEach(() => rm(root, { recursive: true }));

function start(): Promise<ScriptResult> {
  return runScript(join(root, 'start.mjs'));
}

describe('ensureBuild', () => {
  test('builds what is missing, says so, and leaves alone what is up to date', async () => {
    expect(await start()).toEqual({ exitCode: 0, stdout: built, problems: [] });
    expect(await readFile(join(root, 'dist/src/main.js'), 'utf8')).toBe('first');
    expect(await start()).toEqual({ exitCode: 0, stdout: '', problems: [] });
  });

  test('builds again when a source is newer than the program', async () => {
    await start();
    const source = join(root, 'src/core/ids.ts');
    await writeFile(source, 'second');
    const afterBuild = new Date((await stat(join(root, 'dist/src/main.js'))).mtimeMs + 1000);
    await utimes(source, afterBuild, afterBuild);
    expect((await start()).stdout).toBe(built);
    expect(await readFile(join(root, 'dist/src/main.js'), 'utf8')).toBe('second');
  });

  test('fails in one sentence when the build fails', async () => {
    await writeTree(root, { 'package.json': JSON.stringify({ scripts: { build: 'exit 7' } }) });
    const { exitCode, problems } = await start();
    expect(problems.join('\n')).toContain('"npm run --silent build" ended with exit code 7; see above.');
    expect(exitCode).toBe(1);
  });
});
