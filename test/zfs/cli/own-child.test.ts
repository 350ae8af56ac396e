import { ownChildren } from '../../../src/zfs/cli/children/own-child.ts';
import { describeStarter } from './starter.contract.ts';

describeStarter('this process', ownChildren);
