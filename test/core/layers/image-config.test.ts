import { describe, expect, it } from 'vitest';
import { isPandoError } from '../../../src/core/errors.ts';
import { type DiffId, digestOf } from '../../../src/core/layers/digest.ts';
import {
  configWithLayers,
  IMAGE_CONFIG_BYTES_MAX,
  LAYERS_MAX,
  parseImageConfig,
} from '../../../src/core/layers/image-config.ts';

const [A, B, C] = ['a', 'b', 'c'].map((text) => digestOf(text) as DiffId) as [DiffId, DiffId, DiffId];

function config(diffIds: readonly string[], more: object = {}): string {
  return JSON.stringify({ architecture: 'arm64', os: 'linux', ...more, rootfs: { type: 'layers', diff_ids: diffIds } });
}

const invalid = expect.toSatisfy((error) => isPandoError(error, 'IMAGE_INVALID'));

describe('the config of an image', () => {
  it('tells its platform and layers, and stays as it came', () => {
    const text = config([A, B], { variant: 'v8' });
    expect(parseImageConfig(text)).toEqual({ architecture: 'arm64', os: 'linux', diffIds: [A, B], text });
  });

  it.each([
    ['no JSON', '{'],
    ['no object', '[]'],
    ['without a platform', JSON.stringify({ rootfs: { type: 'layers', diff_ids: [] } })],
    ['without layers', JSON.stringify({ architecture: 'arm64', os: 'linux' })],
    ['with a DiffID that is none', config(['sha256:12'])],
    ['with too many layers', config(Array(LAYERS_MAX + 1).fill(A))],
    ['that is too long', config([A], { padding: 'x'.repeat(IMAGE_CONFIG_BYTES_MAX) })],
    ['with a history that is none', config([A], { history: 'long' })],
  ])('is refused: one %s', (_what, text) => {
    expect(() => parseImageConfig(text)).toThrow(invalid);
  });
});

describe('a config for other layers', () => {
  const HISTORY = [{ created_by: 'a' }, { created_by: 'ENV', empty_layer: true }, { created_by: 'b' }];

  function written(diffIds: readonly DiffId[], history: object[] | undefined, added?: object[]) {
    const text = configWithLayers(config([A, B], { config: { Env: ['X=1'] }, history }), diffIds, added);
    return JSON.parse(text);
  }

  it('keeps all else, in the order it had', () => {
    expect(configWithLayers(config([A, B], { config: { Env: ['X=1'] } }), [C])).toBe(
      config([C], { config: { Env: ['X=1'] } }),
    );
  });

  it('is the text that it was for the layers that it had, and so the same image', () => {
    const text = JSON.stringify(JSON.parse(config([A, B], { history: HISTORY })), null, 2);
    expect(configWithLayers(text, [A, B])).toBe(text);
  });

  it('gets the history that comes with a new layer', () => {
    const { rootfs, history } = written([A, B, C], HISTORY, [{ created_by: 'c' }]);
    expect(rootfs.diff_ids).toEqual([A, B, C]);
    expect(history).toEqual([...HISTORY, { created_by: 'c' }]);
  });

  it('loses the history of layers that are gone, but not that of what made none', () => {
    expect(written([A], HISTORY).history).toEqual(HISTORY.slice(0, 2));
    expect(written([C], HISTORY, [{ created_by: 'c' }]).history).toEqual([HISTORY[1], { created_by: 'c' }]);
  });

  it('says nothing about the making of layers that nobody told of', () => {
    expect(written([A, B, C], HISTORY).history).toEqual([...HISTORY, { created_by: 'pando' }]);
    expect(written([A, B, C], undefined, [{ created_by: 'c' }]).history).toEqual([
      { created_by: 'pando' },
      { created_by: 'pando' },
      { created_by: 'c' },
    ]);
  });

  it('has no history where there was none', () => {
    expect(written([C], undefined)).not.toHaveProperty('history');
  });

  it.each([
    ['more history than layers', config([A]), [A], [{}, {}]],
    ['too many layers', config([A]), Array<DiffId>(LAYERS_MAX + 1).fill(A), []],
    ['no config to begin with', '{}', [A], []],
    ['one nested too deeply', `{"deep":${'['.repeat(50_000)}${']'.repeat(50_000)},${config([A]).slice(1)}`, [A], []],
  ] as const)('is refused with %s', (_what, text, diffIds, history) => {
    expect(() => configWithLayers(text, diffIds, history)).toThrow(invalid);
  });
});
