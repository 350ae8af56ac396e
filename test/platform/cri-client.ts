import { fileURLToPath } from 'node:url';
import { Client, credentials } from '@grpc/grpc-js';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('cri.proto', import.meta.url));

/** Has containerd pull an image as Kubernetes has it do that; gives its digest. */
export async function pullImage(socket: string, image: string): Promise<string> {
  const service = loadSync(PROTO, { keepCase: true, defaults: true })['runtime.v1.ImageService'];
  const { PullImage } = service as unknown as Record<string, MethodDefinition<object, { readonly image_ref: string }>>;
  if (PullImage === undefined) throw new Error('There is no such method');
  const { path, requestSerialize, responseDeserialize } = PullImage;
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, { image: { image } }, (error, response) => {
        if (error === null && response !== undefined) resolve(response.image_ref);
        else reject(error);
      });
    });
  } finally {
    client.close();
  }
}
