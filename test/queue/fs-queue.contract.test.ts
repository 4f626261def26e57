import { queueContract } from "../contract/queue-contract.ts";
import { fsBackend } from "./fs-backend.ts";

queueContract(fsBackend);
