import type { ReactNode } from "react";
import { Layout } from "react-admin";
import { SupportBanner } from "../support/support-banner.tsx";
import { ConsoleAppBar } from "./console-app-bar.tsx";
import { ConsoleMenu } from "./console-menu.tsx";

/** Every page: the bar, the menu, and inside of a tenant whose it is and for how long. */
export function ConsoleLayout({ children }: { readonly children: ReactNode }) {
  return (
    <Layout appBar={ConsoleAppBar} menu={ConsoleMenu}>
      <SupportBanner />
      {children}
    </Layout>
  );
}
