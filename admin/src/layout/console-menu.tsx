import ApartmentIcon from "@mui/icons-material/Apartment";
import BadgeIcon from "@mui/icons-material/Badge";
import BusinessIcon from "@mui/icons-material/Business";
import FactCheckIcon from "@mui/icons-material/FactCheck";
import CardMembershipIcon from "@mui/icons-material/CardMembership";
import HistoryIcon from "@mui/icons-material/History";
import KeyIcon from "@mui/icons-material/Key";
import MailIcon from "@mui/icons-material/MailOutlined";
import PeopleIcon from "@mui/icons-material/People";
import ShieldIcon from "@mui/icons-material/ShieldOutlined";
import UpgradeIcon from "@mui/icons-material/Upgrade";
import { Box, Divider, Typography } from "@mui/material";
import { Menu, useSidebarState } from "react-admin";
import { useSupportSession } from "../api/support-session.ts";

/** What there is of a tenant once an operator has stepped into it. */
const TENANT_ITEMS = [
  { to: "/users", text: "Users", icon: <PeopleIcon /> },
  { to: "/companies", text: "Companies", icon: <BusinessIcon /> },
  { to: "/memberships", text: "Memberships", icon: <CardMembershipIcon /> },
  { to: "/invitations", text: "Invitations", icon: <MailIcon /> },
  { to: "/roles", text: "Roles", icon: <BadgeIcon /> },
  { to: "/permissions", text: "Permissions", icon: <KeyIcon /> },
  { to: "/activity-logs", text: "Activity log", icon: <HistoryIcon /> },
  { to: "/security-logs", text: "Security log", icon: <ShieldIcon /> },
  { to: "/verification", text: "Check the logs", icon: <FactCheckIcon /> },
] as const;

/** The platform, and below it the tenant one is in. */
export function ConsoleMenu() {
  const support = useSupportSession();
  const [isOpen] = useSidebarState();
  return (
    <Menu>
      <Menu.Item to="/tenants" primaryText="Tenants" leftIcon={<ApartmentIcon />} />
      <Menu.Item to="/migrations" primaryText="Fleet" leftIcon={<UpgradeIcon />} />
      {support && (
        <Box component="section" aria-label={`In ${support.tenantName}`}>
          <Divider sx={{ my: 1 }} />
          {isOpen && (
            <Typography
              variant="caption"
              noWrap
              sx={{ color: "text.secondary", display: "block", px: 2, pb: 0.5 }}
            >
              In {support.tenantName}
            </Typography>
          )}
          {TENANT_ITEMS.map(({ to, text, icon }) => (
            <Menu.Item key={to} to={to} primaryText={text} leftIcon={icon} />
          ))}
        </Box>
      )}
    </Menu>
  );
}
