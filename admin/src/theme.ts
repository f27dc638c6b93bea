import { defaultLightTheme, type RaThemeOptions } from "react-admin";

const INK = "#1f2a37";
const TEAL = "#0f5c63";

const FONTS = [
  "system-ui",
  "-apple-system",
  '"Segoe UI"',
  "Roboto",
  '"Helvetica Neue"',
  "Arial",
  "sans-serif",
].join(",");

/** Calm and dense: an operator reads tables all day. The fonts are the machine's own. */
export const theme: RaThemeOptions = {
  ...defaultLightTheme,
  palette: {
    mode: "light",
    primary: { main: TEAL, contrastText: "#ffffff" },
    secondary: { main: INK, contrastText: "#ffffff" },
    background: { default: "#f5f6f8", paper: "#ffffff" },
    text: { primary: INK, secondary: "#5b6675" },
    success: { main: "#1d6f42" },
    warning: { main: "#8a5a00" },
    error: { main: "#b3261e" },
    divider: "#e2e5ea",
  },
  shape: { borderRadius: 6 },
  typography: { fontFamily: FONTS, fontSize: 13.5, h6: { fontWeight: 600 } },
  sidebar: { width: 208, closedWidth: 52 },
  components: {
    ...defaultLightTheme.components,
    MuiButtonBase: {
      styleOverrides: {
        root: {
          // Where the keyboard is must be seen on every control.
          "&.Mui-focusVisible": { outline: `2px solid ${TEAL}`, outlineOffset: 2 },
        },
      },
    },
    MuiButton: { styleOverrides: { root: { textTransform: "none", fontWeight: 600 } } },
    MuiCard: {
      defaultProps: { variant: "outlined" },
      styleOverrides: { root: { boxShadow: "none" } },
    },
    MuiPaper: { styleOverrides: { rounded: { boxShadow: "none" } } },
    MuiTableCell: {
      styleOverrides: { head: { fontWeight: 600, color: "#5b6675", whiteSpace: "nowrap" } },
    },
  },
};
