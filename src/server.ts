/** What `npm run dev` starts, from the sources; what `npm start` starts is made of `src/built`. */
import { serve } from "./serve.ts";

await serve();
