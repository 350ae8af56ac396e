/** `npm run demo` on a fresh clone: dependencies and build first, with Node's own modules only, then the demo itself. */
import { ensureBuild, ensureDependencies } from '../provision/bootstrap.mjs';

await ensureDependencies();
await ensureBuild();
await import(new URL('../../dist/peers/demo/demo.js', import.meta.url).href);
