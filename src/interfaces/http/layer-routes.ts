import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { parseTreeName } from '../../core/ids.ts';
import { parseChainId } from '../../core/layers/digest.ts';
import type { LayerStore } from '../../features/layers/layer-stores.ts';
import type { LineStreams } from './lines.ts';
import {
  checked,
  collectGarbageSchema,
  commitRootSchema,
  createRootSchema,
  exportImageSchema,
  extractImageSchema,
  imageQuerySchema,
  initLayersSchema,
  storeQuerySchema,
} from './requests.ts';
import type { DaemonServices } from './services.ts';

const TAR = 'application/x-tar';

/** Layers, the images that they make, and container roots. Long ones are told in lines. */
export function layerRoutes(app: FastifyInstance, { layers, trees }: DaemonServices, streams: LineStreams): void {
  const storeOf = (tree: string | undefined): LayerStore =>
    layers.stores.require(tree === undefined ? undefined : parseTreeName(tree));
  const storeIn = (query: unknown): LayerStore => storeOf(checked(storeQuerySchema, query).store);

  app.get('/v1/layer-stores', () => layers.stores.list());

  app.post('/v1/layer-stores', ({ body }) => {
    const { tree, name } = trees.locate(checked(initLayersSchema, body).dataset);
    return layers.init(tree, name);
  });

  app.get('/v1/layers', ({ query }) => layers.listLayers(storeIn(query)));

  app.post('/v1/layers/garbage', ({ body }) => {
    const { store, dryRun } = checked(collectGarbageSchema, body);
    return layers.collectGarbage(storeOf(store), { isDryRun: dryRun });
  });

  app.get<{ Params: { layer: string } }>('/v1/layers/:layer/tar', async ({ params, query }, reply) => {
    const ending = new AbortController();
    reply.raw.once('close', () => ending.abort());
    const tar = layers.tarOf(storeIn(query), parseChainId(params.layer), ending.signal)[Symbol.asyncIterator]();
    // What it is refused for comes before its first byte, and can still be told
    const first = await tar.next();
    return reply.type(TAR).send(Readable.from(withFirst(first, tar)));
  });

  app.get('/v1/images', ({ query }) => layers.images(storeIn(query)));

  app.post('/v1/images/extract', ({ body }, reply) => {
    const { store, ...request } = checked(extractImageSchema, body);
    const place = storeOf(store);
    return streams.start(reply, async (tell, signal) => {
      const onProgress = (progress: object): void => tell({ type: 'progress', progress }, { optional: true });
      return { type: 'result', result: await layers.extract(place, { ...request, signal, onProgress }) };
    });
  });

  app.post('/v1/images/export', ({ body }, reply) => {
    const { store, image, target } = checked(exportImageSchema, body);
    const place = storeOf(store);
    return streams.start(reply, async (_tell, signal) => ({
      type: 'result',
      result: { image, target, manifest: await layers.exportImage(place, image, target, signal) },
    }));
  });

  app.delete('/v1/images', async ({ query }, reply) => {
    const { store, image } = checked(imageQuerySchema, query);
    await layers.catalog.untag(storeOf(store), image);
    return reply.code(204).send();
  });

  app.get('/v1/roots', ({ query }) => layers.listRoots(storeIn(query)));

  app.post('/v1/roots', ({ body }, reply) => {
    const { store, id, image, layer } = checked(createRootSchema, body);
    const of = layer === undefined ? { image: image ?? '' } : { layer: parseChainId(layer) };
    const place = storeOf(store);
    return streams.start(reply, async (_tell, signal) => ({
      type: 'result',
      result: { id, directory: await layers.createRoot(place, id, of, signal) },
    }));
  });

  app.delete<{ Params: { id: string } }>('/v1/roots/:id', async ({ params, query }, reply) => {
    await layers.roots.remove(storeIn(query), params.id);
    return reply.code(204).send();
  });

  app.post<{ Params: { id: string } }>('/v1/roots/:id/commit', ({ params, body }, reply) => {
    const { store, image, freeze } = checked(commitRootSchema, body);
    const place = storeOf(store);
    return streams.start(reply, async (_tell, signal) => ({
      type: 'result',
      result: await layers.commit(place, params.id, image, { freeze, signal }),
    }));
  });
}

async function* withFirst(
  first: IteratorResult<Uint8Array>,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    for (let next = first; next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}
