// Pure unit files share one process: together they cost what one of them would cost alone.
import "./controller/batches.test.ts";
