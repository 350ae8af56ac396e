/** What these tests start as processes of their own is compiled. */
import { ensureBuild } from '../../peers/provision/bootstrap.mjs';

export default ensureBuild;
